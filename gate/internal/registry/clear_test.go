package registry_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
)

func TestRedirectsStayWithinTLS(t *testing.T) {
	for _, test := range []struct {
		name  string
		clear bool
	}{{"to https", false}, {"to http", true}} {
		t.Run(test.name, func(t *testing.T) {
			var elsewhere string
			w := secure(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.URL.Path, "/blobs/") && !strings.HasPrefix(r.URL.RawQuery, "moved") {
						http.Redirect(rw, r, elsewhere+r.URL.Path+"?moved", http.StatusTemporaryRedirect)
						return
					}
					next.ServeHTTP(rw, r)
				})
			})
			if test.clear {
				elsewhere = "http://" + testsign.Serve(t, w.pusher.Handler)
			}
			set, err := w.fetch(t)
			if !test.clear {
				complete(t, set, err)
				return
			}
			if len(set.Bundles) != 0 { // the attachment's payload is not asked for
				t.Errorf("%d attachments, %d bundles", len(set.Attachments), len(set.Bundles))
			}
			problem(t, set, code.RegistryError, "a redirect from https to http")
		})
	}
}

func TestCredentialsAreNotPostedInTheClear(t *testing.T) {
	for _, test := range []struct {
		name, host string // of the token server
		want       code.Code
	}{{"to this machine", "127.0.0.1", code.OK}, {"over a network", "0.0.0.0", code.RegistryAuth}} {
		t.Run(test.name, func(t *testing.T) {
			var posted atomic.Int32
			tokens := testsign.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				posted.Add(1)
				fmt.Fprint(w, `{"access_token":"opaque","expires_in":60}`)
			}))
			realm := strings.Replace(tokens, "127.0.0.1", test.host, 1) // 0.0.0.0 leads to this machine, and is not a loopback address
			w := secure(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "Bearer opaque" {
						rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry"`, realm))
						answer(rw, 401, "")
						return
					}
					next.ServeHTTP(rw, r)
				})
			})
			w.config.DockerConfig = filepath.Join(t.TempDir(), "docker.json")
			write(t, w.config.DockerConfig, `{"auths":{"fallback.test":{"identitytoken":"refresh"}}}`, 0o600)
			set, err := w.fetch(t)
			if test.want == code.OK {
				complete(t, set, err)
				return
			}
			fails(t, err, test.want, "plain HTTP")
			if posted.Load() != 0 {
				t.Error("the token server was sent something")
			}
		})
	}
}
