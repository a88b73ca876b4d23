package registry_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

// oauth asks for a token, which its token server gives for a refresh token only,
// and by POST only.
func oauth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			if r.Method != http.MethodPost || r.PostFormValue("grant_type") != "refresh_token" || r.PostFormValue("refresh_token") != "refresh" {
				answer(w, 401, "")
				return
			}
			fmt.Fprint(w, `{"access_token":"opaque","expires_in":60}`)
		case r.Header.Get("Authorization") != "Bearer opaque":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token",service="registry"`, r.Host))
			answer(w, 401, "")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func TestLogins(t *testing.T) {
	const good = `"username":"user","password":"secret"`
	tests := []struct {
		name   string
		wrap   func(http.Handler) http.Handler
		file   string
		want   code.Code
		saying string
	}{
		{"by path", basic, `{"auths":{"fallback.test":{"auth":"bad"},"fallback.test/demo":{` + good + `},"fallback.test/other":{"username":"x","password":"y"}}}`, code.OK, ""},
		{"by another path", basic, `{"auths":{"fallback.test/other":{` + good + `}}}`, code.RegistryAuth, "no basic auth"},
		{"a bad entry of another registry", basic, `{"auths":{"quay.io":{"auth":"dXNlcm5hbWUK"},"fallback.test":{` + good + `}}}`, code.OK, ""},
		{"a bad entry of this one", basic, `{"auths":{"fallback.test":{"auth":"dXNlcm5hbWUK"}}}`, code.RegistryAuth, `auths."fallback.test"`},
		{"a bad entry, and no login needed", plain, `{"auths":{"fallback.test":{"auth":"dXNlcm5hbWUK"}}}`, code.OK, ""},
		{"a refresh token", oauth, `{"auths":{"fallback.test":{"auth":"MDAwMDo=","identitytoken":"refresh"}}}`, code.OK, ""},
		{"another refresh token", oauth, `{"auths":{"fallback.test":{"auth":"MDAwMDo=","identitytoken":"other"}}}`, code.RegistryAuth, "401"},
		{"the same as a password", oauth, `{"auths":{"fallback.test":{"username":"0000","password":"refresh"}}}`, code.RegistryAuth, "401"},
		{"a registry token", oauth, `{"auths":{"fallback.test":{"registrytoken":"opaque"}}}`, code.OK, ""},
		{"another registry token", oauth, `{"auths":{"fallback.test":{"registrytoken":"other"}}}`, code.RegistryAuth, "registrytoken"},
		{"a helper", basic, `{"auths":{"fallback.test":{}},"credHelpers":{"fallback.test":"ecr-login"}}`, code.RegistryAuth, "not to be had on this node"},
		{"a helper, and no login needed", plain, `{"auths":{"fallback.test":{}},"credHelpers":{"fallback.test":"ecr-login"}}`, code.OK, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := secure(t, test.wrap)
			w.config.DockerConfig = filepath.Join(t.TempDir(), "docker.json")
			write(t, w.config.DockerConfig, test.file, 0o600)
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
