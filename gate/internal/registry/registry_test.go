package registry_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
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
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// world is a registry and what is in it.
type world struct {
	pusher     testsign.Pusher
	repository string
	digest     string
	key        testsign.Key
	config     registry.Config
}

// newWorld serves a registry behind wrap, which stands between it and clients.
func newWorld(t testing.TB, referrers bool, wrap func(http.Handler) http.Handler) *world {
	t.Helper()
	handler := testsign.Handler(referrers)
	w := &world{pusher: testsign.Pusher{Handler: handler, Path: "demo/app"}, key: testsign.NewKey(t)}
	if wrap != nil {
		handler = wrap(handler)
	}
	w.repository = testsign.Serve(t, handler) + "/demo/app"
	w.digest = w.pusher.Image(t, "image")
	return w
}

func (w *world) fetch(t testing.TB) (evidence.Set, error) {
	t.Helper()
	return registry.New(w.config).Fetch(t.Context(), w.repository, w.digest, nil)
}

// push puts one signature in each format.
func (w *world) push(t testing.TB, fallback bool) {
	t.Helper()
	w.pusher.Attachments(t, w.digest, testsign.Attachment(t, w.key, w.repository, w.digest))
	w.pusher.Bundles(t, w.digest, fallback, testsign.Bundle(t, w.key, w.digest))
}

// complete checks that the set has what push put there.
func complete(t *testing.T, set evidence.Set, err error) {
	t.Helper()
	if err != nil || len(set.Attachments) != 1 || len(set.Bundles) != 1 || len(set.Problems) != 0 || set.Manifest == nil {
		t.Errorf("%d attachments, %d bundles, manifest %v, problems %v, %v",
			len(set.Attachments), len(set.Bundles), set.Manifest != nil, set.Problems, err)
	}
}

func fails(t *testing.T, err error, want code.Code, saying string) {
	t.Helper()
	var refusal *code.Refusal
	if !errors.As(err, &refusal) || refusal.Code != want || !strings.Contains(refusal.Error(), saying) {
		t.Errorf("got %v, want %s with %q", err, want, saying)
	}
}

func problem(t *testing.T, set evidence.Set, want code.Code, saying string) {
	t.Helper()
	for _, p := range set.Problems {
		if p.Code == want && strings.Contains(p.Error(), saying) {
			return
		}
	}
	t.Errorf("no %s with %q among %v", want, saying, set.Problems)
}

func TestFetchFindsBothFormats(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprint("referrers API ", referrers), func(t *testing.T) {
			w := newWorld(t, referrers, nil)
			w.push(t, !referrers)
			set, err := w.fetch(t)
			complete(t, set, err)
			if testsign.Digest(set.Manifest) != w.digest || set.Repository != w.repository || set.Digest != w.digest {
				t.Errorf("got %+v", set)
			}
		})
	}
}

func TestAbsenceIsNoError(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		w := newWorld(t, referrers, nil)
		if set, err := w.fetch(t); err != nil || !set.Empty() || len(set.Problems) != 0 {
			t.Errorf("got %+v, %v", set, err)
		}
		w.repository += "/missing"
		if set, err := w.fetch(t); err != nil || !set.Empty() || len(set.Problems) != 0 {
			t.Errorf("a repository that is not there: %+v, %v", set, err)
		}
	}
}

func TestReferrersCountByTheirOwnType(t *testing.T) {
	w := newWorld(t, false, nil)
	bundle := testsign.Bundle(t, w.key, w.digest)
	second := testsign.BundleOf(t, w.key, testsign.Statement(w.digest, "https://spdx.dev/Document"))
	byManifest := w.pusher.Referrer(t, w.digest, testsign.BundleType, bundle.JSON) // listed with the type of the empty config
	byConfig := w.pusher.Referrer(t, w.digest, "", second.JSON)
	byConfig.ArtifactType = "application/vnd.example"
	sbom := w.pusher.Referrer(t, w.digest, "application/spdx+json", []byte("{}"))
	sbom.ArtifactType = testsign.BundleType // a list that lies
	elsewhere := w.pusher.Referrer(t, testsign.Digest([]byte("x")), testsign.BundleType, bundle.JSON)
	gone := w.pusher.Referrer(t, w.digest, testsign.BundleType, []byte("gone"))
	w.pusher.Fallback(t, w.digest, byManifest, byConfig, sbom, elsewhere, gone)
	w.pusher.Delete(t, gone.Digest)
	set, err := w.fetch(t)
	if err != nil || len(set.Bundles) != 2 {
		t.Errorf("%d bundles, %v", len(set.Bundles), err)
	}
	problem(t, set, code.Malformed, "another subject")
	if len(set.Problems) != 1 {
		t.Errorf("problems %v", set.Problems)
	}
}

func TestGoodSignaturesAreNotHiddenByOthers(t *testing.T) {
	w := newWorld(t, false, nil)
	good := testsign.Bundle(t, w.key, w.digest)
	var listed []testsign.Descriptor
	for i := range 70 {
		d := w.pusher.Referrer(t, w.digest, "application/vnd.example", fmt.Append(nil, i))
		d.ArtifactType = "application/vnd.example"
		listed = append(listed, d)
	}
	w.pusher.Fallback(t, w.digest, append(listed, w.pusher.Referrer(t, w.digest, testsign.BundleType, good.JSON))...)
	var attachments []evidence.Attachment
	for i := range 70 {
		a := testsign.Attachment(t, w.key, w.repository, w.digest)
		a.Payload = fmt.Append(nil, i)
		if i == 63 {
			a = testsign.Attachment(t, w.key, w.repository, w.digest)
		}
		attachments = append(attachments, a)
	}
	w.pusher.Attachments(t, w.digest, attachments...)
	set, err := w.fetch(t)
	if err != nil || len(set.Bundles) != 1 || len(set.Attachments) != 64 {
		t.Errorf("%d bundles, %d attachments, %v", len(set.Bundles), len(set.Attachments), err)
	}
	problem(t, set, code.Malformed, "71 referrers")
	problem(t, set, code.Malformed, "70 signatures under its tag")
}

func TestContentThatCannotBeUsedIsAProblem(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter, path string) bool // true: answered
		want   code.Code
		saying string
	}{
		{"a blob with other bytes", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 200, "other bytes")
		}, code.Tampered, "blob"},
		{"a blob that is missing", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 404, "")
		}, code.RegistryError, "lacks blob"},
		{"a blob that is too large", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 200, strings.Repeat("x", 1<<20+1))
		}, code.Malformed, "too large"},
		{"a blob that fails", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 500, "")
		}, code.RegistryError, "500"},
		{"a list that is no JSON", func(w http.ResponseWriter, path string) bool {
			return strings.HasSuffix(path, ".sig") && answer(w, 200, "junk")
		}, code.Malformed, ".sig"},
		{"a manifest with other bytes", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/manifests/sha256:") && answer(w, 200, "{}")
		}, code.Tampered, "manifest"},
		{"an endless manifest", func(w http.ResponseWriter, path string) bool {
			if !strings.HasSuffix(path, ".sig") {
				return false
			}
			for range 5 << 20 / 1000 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					break
				}
			}
			return true
		}, code.Malformed, "too large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, true, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if !test.answer(rw, r.URL.Path) {
						next.ServeHTTP(rw, r)
					}
				})
			})
			w.push(t, false)
			set, err := w.fetch(t)
			if err != nil {
				t.Fatal(err)
			}
			problem(t, set, test.want, test.saying)
		})
	}
}

func answer(w http.ResponseWriter, status int, body string) bool {
	w.WriteHeader(status)
	fmt.Fprint(w, body)
	return true
}

func TestOneBadBlobAmongGoodOnes(t *testing.T) {
	bad := testsign.Digest(testsign.Payload("registry.example/bad", testsign.Digest(nil)))
	w := newWorld(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/blobs/"+bad) {
				answer(rw, 200, "other bytes")
				return
			}
			next.ServeHTTP(rw, r)
		})
	})
	w.pusher.Attachments(t, w.digest, testsign.Attachment(t, w.key, "registry.example/bad", testsign.Digest(nil)),
		testsign.Attachment(t, w.key, w.repository, w.digest))
	set, err := w.fetch(t)
	if err != nil || len(set.Attachments) != 1 || string(set.Attachments[0].Payload) != string(testsign.Payload(w.repository, w.digest)) {
		t.Errorf("got %+v, %v", set.Attachments, err)
	}
	problem(t, set, code.Tampered, bad)
}

func TestAnnotationsAreBounded(t *testing.T) {
	w := newWorld(t, true, nil)
	a := testsign.Attachment(t, w.key, w.repository, w.digest)
	a.Annotations["x"] = strings.Repeat("x", 64<<10)
	w.pusher.Attachments(t, w.digest, a, testsign.Attachment(t, w.key, w.repository, w.digest))
	set, err := w.fetch(t)
	if err != nil || len(set.Attachments) != 1 {
		t.Errorf("%d attachments, %v", len(set.Attachments), err)
	}
	problem(t, set, code.Malformed, "annotations")
}

func TestFailuresAreTyped(t *testing.T) {
	always := func(status int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, status, "") })
		}
	}
	tests := []struct {
		name   string
		wrap   func(http.Handler) http.Handler
		want   code.Code
		saying string
	}{
		{"500", always(500), code.RegistryError, "500"},
		{"503", always(503), code.RegistryError, "503"},
		{"429", always(429), code.RegistryError, "429"},
		{"403", always(403), code.RegistryAuth, "403"},
		{"401 without a challenge", always(401), code.RegistryAuth, "refused the gate"},
		{"a closed connection", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, code.NoEvidenceOffline, "cannot be reached"},
		{"an endless redirect", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
		}, code.RegistryError, "redirects"},
		{"a huge header", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X", strings.Repeat("x", 128<<10))
				answer(w, 200, "")
			})
		}, code.RegistryError, "header"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := newWorld(t, true, test.wrap).fetch(t)
			fails(t, err, test.want, test.saying)
		})
	}
}

func TestARegistryThatIsDown(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	w := newWorld(t, true, nil)
	w.repository = strings.TrimPrefix(server.URL, "http://") + "/demo/app"
	_, err := w.fetch(t)
	fails(t, err, code.NoEvidenceOffline, "refused")
	w.repository = "registry.invalid/demo/app"
	_, err = w.fetch(t)
	fails(t, err, code.NoEvidenceOffline, "cannot be reached")
}

func TestASlowRegistry(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				<-release
			}
			next.ServeHTTP(rw, r)
		})
	})
	defer close(release)
	w.push(t, false)
	w.config.Timeout = 200 * time.Millisecond
	start := time.Now()
	set, err := w.fetch(t)
	fails(t, err, code.NoEvidenceOffline, "no answer in time")
	if len(set.Attachments) != 1 || time.Since(start) > 2*time.Second {
		t.Errorf("%d attachments after %v: what was there in time must count", len(set.Attachments), time.Since(start))
	}
}

func TestReferrersInPages(t *testing.T) {
	var w *world
	var pages []testsign.Descriptor
	w = newWorld(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				next.ServeHTTP(rw, r)
				return
			}
			page := 0
			fmt.Sscan(r.URL.Query().Get("page"), &page)
			rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			if page+1 < len(pages) {
				rw.Header().Set("Link", fmt.Sprintf(`<http://elsewhere.invalid%s?page=%d>; rel="next"`, r.URL.Path, page+1))
			}
			json.NewEncoder(rw).Encode(map[string]any{"manifests": pages[page : page+1]})
		})
	})
	for i := range 3 {
		pages = append(pages, w.pusher.Referrer(t, w.digest, testsign.BundleType, fmt.Append(nil, i)))
	}
	if set, err := w.fetch(t); err != nil || len(set.Bundles) != 3 || len(set.Problems) != 0 {
		t.Errorf("%d bundles, %v, %v", len(set.Bundles), set.Problems, err)
	}
}

func TestKnownManifestIsNotAskedFor(t *testing.T) {
	var asked atomic.Int32
	w := newWorld(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			next.ServeHTTP(rw, r)
		})
	})
	set, err := registry.New(w.config).Fetch(t.Context(), w.repository, w.digest, testsign.Manifest("image"))
	if err != nil || set.Manifest == nil || asked.Load() != 3 { // .sig, referrers, fallback tag
		t.Errorf("%d questions, %v", asked.Load(), err)
	}
}

func TestManifest(t *testing.T) {
	w := newWorld(t, true, nil)
	c := registry.New(w.config)
	for _, reference := range []string{"latest", w.digest} {
		m, err := c.Manifest(t.Context(), w.repository, reference)
		if err != nil || m.Digest != w.digest || m.MediaType != "application/vnd.oci.image.manifest.v1+json" {
			t.Errorf("%s: %+v, %v", reference, m, err)
		}
	}
	_, err := c.Manifest(t.Context(), w.repository, "missing")
	fails(t, err, code.RegistryError, "has no missing")
	_, err = c.Manifest(t.Context(), "not a repository", "latest")
	fails(t, err, code.BadReference, "")
}

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
		{"a config that is no JSON", plain, func(t *testing.T) string {
			path := t.TempDir() + "/docker.json"
			write(t, path, `{"auths": "secret"`, 0o600)
			return path
		}, code.RegistryAuth, "no JSON"},
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
	write(t, hosts, "server = ", 0o644)
	_, err = w.fetch(t)
	fails(t, err, code.RegistryError, "hosts.toml")
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
	}{
		{"a mirror that has nothing", mirror(func(rw http.ResponseWriter, _ *http.Request) { answer(rw, 404, "") })},
		{"a mirror that fails", mirror(func(rw http.ResponseWriter, _ *http.Request) { answer(rw, 500, "") })},
		{"a mirror that has it", mirror(w.pusher.Handler.ServeHTTP)},
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
	// 0.0.0.0 leads to this machine, and is no loopback address.
	write(t, filepath.Join(w.config.CertsDir, "plain.test", "hosts.toml"),
		fmt.Sprintf("server = \"http://%s\"\n", strings.Replace(host, "127.0.0.1", "0.0.0.0", 1)), 0o644)
	w.repository = "plain.test/demo/app"
	_, err := w.fetch(t)
	fails(t, err, code.RegistryAuth, "plain HTTP")
}

func BenchmarkFetch(b *testing.B) {
	w := newWorld(b, true, nil)
	w.push(b, false)
	host, _, _ := strings.Cut(w.repository, "/")
	w.config.CertsDir = b.TempDir()
	write(b, filepath.Join(w.config.CertsDir, host, "hosts.toml"), fmt.Sprintf("server = \"http://%s\"\n", host), 0o644)
	known := testsign.Manifest("image") // as at a container start, where the node has it
	for b.Loop() {
		if set, err := registry.New(w.config).Fetch(b.Context(), w.repository, w.digest, known); err != nil || len(set.Bundles) != 1 {
			b.Fatal(err)
		}
	}
}
