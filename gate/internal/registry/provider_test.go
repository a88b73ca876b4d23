package registry_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/provider"
	"countersign/gate/internal/testsign"
)

func logins(user, password string) string {
	return testsign.Answers("Registry", "", map[string][2]string{"fallback.test": {user, password}})
}

func TestLoginsOfCredentialProviders(t *testing.T) {
	const entry = `{"auths":{"fallback.test":{%s}}}`
	tests := []struct {
		name   string
		wrap   func(http.Handler) http.Handler
		match  string
		body   string
		file   string // the Docker config; "" for none
		runs   int
		want   code.Code
		saying string
	}{
		{"basic", basic, "fallback.test", logins("user", "secret"), "", 1, code.OK, ""},
		{"bearer", bearer, "fallback.test", logins("user", "secret"), "", 1, code.OK, ""},
		{"a wrong password", basic, "fallback.test", logins("user", "other"), "", 1, code.RegistryAuth, "401"},
		{"for other images", basic, "other.test", logins("user", "secret"), "", 0, code.RegistryAuth, "no basic auth credentials"},
		{"that fails", basic, "fallback.test", "echo secret >&2; exit 1", "", 1, code.RegistryAuth, `the credential provider "provider" failed (exit status 1)`},
		{"that has none", basic, "fallback.test", logins("", ""), "", 1, code.RegistryAuth, `"provider" has no login for fallback.test/demo/app`},
		{"and no login needed", plain, "fallback.test", logins("user", "secret"), "", 0, code.OK, ""},
		{"and a login in the file", basic, "fallback.test", logins("user", "other"), fmt.Sprintf(entry, `"username":"user","password":"secret"`), 0, code.OK, ""},
		{"and a wrong login in the file", basic, "fallback.test", logins("user", "secret"), fmt.Sprintf(entry, `"username":"user","password":"x"`), 0, code.RegistryAuth, "401"},
		{"and a bad login in the file", basic, "fallback.test", logins("user", "secret"), fmt.Sprintf(entry, `"auth":"secret"`), 0, code.RegistryAuth, `auths."fallback.test"`},
		{"and an empty entry in the file", basic, "fallback.test", logins("user", "secret"), fmt.Sprintf(entry, ""), 1, code.OK, ""},
		{"and a helper in the file", basic, "fallback.test", logins("user", "secret"), `{"credHelpers":{"fallback.test":"ecr-login"}}`, 1, code.OK, ""},
		{"that fails, and a helper in the file", basic, "fallback.test", "exit 1", `{"credHelpers":{"fallback.test":"ecr-login"}}`, 1, code.RegistryAuth, `"ecr-login", which the gate does not run`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := secure(t, test.wrap)
			if test.file != "" {
				w.config.DockerConfig = filepath.Join(t.TempDir(), "docker.json")
				write(t, w.config.DockerConfig, test.file, 0o600)
			}
			p := testsign.NewProvider(t, test.match, test.body)
			w.provide(p)
			set, err := w.fetch(t)
			if got := len(p.Requests(t)); got != test.runs {
				t.Errorf("%d runs, expected %d", got, test.runs)
			}
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

// provide has the world's registry asked with the logins of a provider.
func (w *world) provide(p *testsign.Provider) {
	w.config.Providers = provider.New(provider.Config{Config: p.Config, BinDir: p.BinDir})
	w.config.Timeout = 15 * time.Second
}

func TestAProviderThatNeedsAPodsToken(t *testing.T) {
	w := secure(t, basic)
	p := testsign.NewProvider(t, "fallback.test", logins("user", "secret"))
	w.provide(p)
	p.Settings["tokenAttributes"] = map[string]any{"serviceAccountTokenAudience": "a", "cacheType": "Token", "requireServiceAccount": true}
	p.Write(t, p.Settings)
	_, err := w.fetch(t)
	fails(t, err, code.RegistryAuth, `the credential provider "provider" needs a pod's token (tokenAttributes): it is not to be had for evidence`)
	delete(p.Settings, "tokenAttributes")
	p.Write(t, p.Settings)
	set, err := w.fetch(t)
	complete(t, set, err)
}

func TestProvidersThatCannotBeUsed(t *testing.T) {
	w := secure(t, basic)
	p := testsign.NewProvider(t, "fallback.test", logins("user", "secret"))
	w.provide(p)
	write(t, p.Config, "kind: Secret\nsecret: secret\n", 0o600)
	_, err := w.fetch(t)
	fails(t, err, code.RegistryAuth, "the credential providers cannot be used: "+p.Config)
	p.Write(t, p.Settings)
	set, err := w.fetch(t)
	complete(t, set, err)
}

func TestAMirrorGetsALoginUnderItsOwnNameFirst(t *testing.T) {
	const mirror = "mirror.test:8443"
	for _, test := range []struct {
		name string
		keys map[string][2]string
		user string
	}{
		{"its own", map[string][2]string{mirror: {"mirror", "secret"}, "fallback.test": {"image", "secret"}}, "mirror"},
		{"the image's", map[string][2]string{"fallback.test": {"image", "secret"}}, "image"},
	} {
		w := newWorld(t, true, nil)
		var mu sync.Mutex
		var users []string
		host := testsign.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			user, _, ok := r.BasicAuth()
			if !ok {
				rw.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				answer(rw, 401, "")
				return
			}
			mu.Lock()
			users = append(users, user)
			mu.Unlock()
			w.pusher.Handler.ServeHTTP(rw, r)
		}))
		w.push(t, false)
		keys := map[string][2]string{}
		for key, login := range test.keys {
			keys[strings.Replace(key, mirror, host, 1)] = login
		}
		p := testsign.NewProvider(t, "fallback.test", testsign.Answers("Image", "", keys))
		p.Settings["matchImages"] = []string{"fallback.test", host}
		p.Write(t, p.Settings)
		w.provide(p)
		w.repository, w.config.CertsDir = "fallback.test/demo/app", t.TempDir()
		write(t, filepath.Join(w.config.CertsDir, "fallback.test", "hosts.toml"), fmt.Sprintf("server = \"http://%s\"\n", host), os.FileMode(0o644))
		if _, err := w.fetch(t); err != nil || len(users) == 0 || users[0] != test.user {
			t.Errorf("%s: %v, %q", test.name, err, users)
		}
	}
}
