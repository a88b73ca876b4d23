package registry_test

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
)

// secure serves a registry by TLS as fallback.test, and writes the certs.d that
// leads there.
func secure(t *testing.T, wrap func(http.Handler) http.Handler) *world {
	t.Helper()
	handler := testsign.Handler(false)
	w := &world{pusher: testsign.Pusher{Handler: handler, Path: "demo/app"}, key: testsign.NewKey(t), repository: "fallback.test/demo/app"}
	server := httptest.NewUnstartedServer(wrap(handler))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	w.config.CertsDir = t.TempDir()
	dir := filepath.Join(w.config.CertsDir, "fallback.test")
	write(t, filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), 0o644)
	write(t, filepath.Join(dir, "hosts.toml"), fmt.Sprintf("server = %q\nca = \"ca.pem\"\n", server.URL), 0o644)
	w.digest = w.pusher.Image(t, "image")
	w.push(t, true)
	return w
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func plain(next http.Handler) http.Handler { return next }

// basic asks for user:secret.
func basic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "user" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			answer(w, 401, "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearer asks for a token, which its own token server gives to user:secret.
func bearer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			user, password, _ := r.BasicAuth()
			if r.Method == http.MethodPost {
				user, password = r.PostFormValue("username"), r.PostFormValue("password")
			}
			if user != "user" || password != "secret" || r.FormValue("scope") != "repository:demo/app:pull" {
				answer(w, 403, "")
				return
			}
			fmt.Fprint(w, `{"access_token":"opaque","token":"opaque","expires_in":60}`)
		case r.Header.Get("Authorization") != "Bearer opaque":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token",service="registry"`, r.Host))
			answer(w, 401, "")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func dockerConfig(t *testing.T, host, login string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "docker.json")
	write(t, path, fmt.Sprintf(`{"auths":{%q:{"auth":%q}},"credsStore":"ignored"}`, host,
		base64.StdEncoding.EncodeToString([]byte(login))), mode)
	return path
}

func TestTLSAndAuthentication(t *testing.T) {
	tests := []struct {
		name   string
		wrap   func(http.Handler) http.Handler
		config func(*testing.T) string
		want   code.Code
		saying string
	}{
		{"TLS with an own CA", plain, nil, code.OK, ""},
		{"basic", basic, func(t *testing.T) string { return dockerConfig(t, "fallback.test", "user:secret", 0o600) }, code.OK, ""},
		{"basic, URL as the key", basic, func(t *testing.T) string { return dockerConfig(t, "https://fallback.test/v1/", "user:secret", 0o400) }, code.OK, ""},
		{"basic, wrong password", basic, func(t *testing.T) string { return dockerConfig(t, "fallback.test", "user:wrong", 0o600) }, code.RegistryAuth, "refused the gate"},
		{"basic, login for another host", basic, func(t *testing.T) string { return dockerConfig(t, "other.test", "user:secret", 0o600) }, code.RegistryAuth, "no basic auth credentials"},
		{"basic, no config", basic, nil, code.RegistryAuth, "no basic auth credentials"},
		{"basic, config that is not there", basic, func(t *testing.T) string { return t.TempDir() + "/none.json" }, code.RegistryAuth, "no basic auth"},
		{"a config that others may read", basic, func(t *testing.T) string { return dockerConfig(t, "fallback.test", "user:secret", 0o640) }, code.RegistryAuth, "0640"},
		{"a config that is not JSON", plain, func(t *testing.T) string {
			path := t.TempDir() + "/docker.json"
			write(t, path, `{"auths": "secret"`, 0o600)
			return path
		}, code.RegistryAuth, "not JSON"},
		{"an empty config", plain, func(t *testing.T) string {
			path := t.TempDir() + "/docker.json"
			write(t, path, "\n", 0o600)
			return path
		}, code.OK, ""},
		{"bearer", bearer, func(t *testing.T) string { return dockerConfig(t, "fallback.test", "user:secret", 0o600) }, code.OK, ""},
		{"bearer, wrong password", bearer, func(t *testing.T) string { return dockerConfig(t, "fallback.test", "user:wrong", 0o600) }, code.RegistryAuth, "403"},
		{"bearer, no login", bearer, nil, code.RegistryAuth, "403"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := secure(t, test.wrap)
			if test.config != nil {
				w.config.DockerConfig = test.config(t)
			}
			set, err := w.fetch(t)
			if test.want == code.OK {
				complete(t, set, err)
				return
			}
			fails(t, err, test.want, test.saying)
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a password: %v", err)
			}
		})
	}
}

func TestHostsFiles(t *testing.T) {
	w := secure(t, plain)
	hosts := filepath.Join(w.config.CertsDir, "fallback.test", "hosts.toml")
	good, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	write(t, hosts, strings.Replace(string(good), "ca = ", "# ca = ", 1), 0o644)
	_, err = w.fetch(t)
	fails(t, err, code.RegistryError, "certificate")
	// containerd's own loader would take any of these for no file at all.
	for _, bad := range []string{"server = ", "server = 5", "server = \"%\"", "[host.\"https://x\"]\n  capabilities = \"pull\"", string(good) + "dial_timeout = \"x\"\n", "ca = 5"} {
		write(t, hosts, bad, 0o644)
		_, err = w.fetch(t)
		fails(t, err, code.RegistryError, "hosts.toml")
	}
	write(t, hosts, string(good), 0o644)
	set, err := w.fetch(t)
	complete(t, set, err) // read anew, without a restart
}

func TestMirrors(t *testing.T) {
	w := secure(t, plain)
	var asked atomic.Int32
	mirror := func(handler http.HandlerFunc) string {
		return testsign.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.URL.Query().Get("ns") != "fallback.test" {
				t.Errorf("a mirror was asked without the registry's name: %s", r.URL)
			}
			handler(rw, r)
		}))
	}
	tests := []struct {
		name string
		host string
		want code.Code // of the error; all is found all the same
	}{
		{"a mirror that has nothing", mirror(func(rw http.ResponseWriter, _ *http.Request) { answer(rw, 404, "") }), code.OK},
		{"a mirror that fails", mirror(func(rw http.ResponseWriter, _ *http.Request) { answer(rw, 500, "") }), code.RegistryError},
		{"a mirror that has it", mirror(w.pusher.Handler.ServeHTTP), code.OK},
	}
	hosts := filepath.Join(w.config.CertsDir, "fallback.test", "hosts.toml")
	good, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked.Store(0)
			write(t, hosts, fmt.Sprintf("%s[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", good, test.host), 0o644)
			set, err := w.fetch(t)
			if test.want != code.OK {
				fails(t, err, test.want, "")
				err = nil
			}
			complete(t, set, err)
			if asked.Load() == 0 {
				t.Error("the mirror was not asked")
			}
		})
	}
}

func TestCredentialsNeverGoOverPlainHTTP(t *testing.T) {
	w := newWorld(t, true, nil)
	host := testsign.Serve(t, basic(w.pusher.Handler))
	w.config.CertsDir = t.TempDir()
	w.config.DockerConfig = dockerConfig(t, "plain.test", "user:secret", 0o600)
	// 0.0.0.0 leads to this machine, and is not a loopback address.
	write(t, filepath.Join(w.config.CertsDir, "plain.test", "hosts.toml"),
		fmt.Sprintf("server = \"http://%s\"\n", strings.Replace(host, "127.0.0.1", "0.0.0.0", 1)), 0o644)
	w.repository = "plain.test/demo/app"
	_, err := w.fetch(t)
	fails(t, err, code.RegistryAuth, "plain HTTP")
}
