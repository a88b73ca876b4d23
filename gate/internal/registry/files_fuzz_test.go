package registry

import (
	"strings"
	"testing"
)

// Whatever a Docker config says, what is read of it can be used or says why not,
// without a word of its secrets.
func FuzzDockerConfig(f *testing.F) {
	for _, seed := range []string{
		`{"auths":{"registry.example":{"auth":"dTpzZWNyZXRzZWNyZXQ="}}}`,
		`{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"secretsecret"},"x/y":{"identitytoken":"t"},"z":{"registrytoken":"t"}}}`,
		`{"auths":{"registry.example":{"auth":"secretsecret"}},"credsStore":"store","credHelpers":{"registry.example":"helper"}}`,
		`{"auths":{"registry.example":"secretsecret"},"credsStore":5,"credHelpers":{"registry.example":null}}`,
		`{"auths":null}`, `[]`,
	} {
		f.Add([]byte(seed), "registry.example/team/app")
	}
	f.Fuzz(func(t *testing.T, content []byte, repository string) {
		c, err := parseCredentials(content)
		if err != nil {
			if strings.Contains(err.Error(), "secretsecret") {
				t.Errorf("a secret is told: %v", err)
			}
			return
		}
		c.path = "docker.json"
		for key, l := range c.logins {
			if l.err != nil && (l.secret != "" || l.bearer != "") {
				t.Errorf("%q can be used although it cannot: %v", key, l.err)
			}
		}
		found, ok := c.find(repository)
		for i := 0; i < 5; i++ { // maps are in no order
			if again, _ := c.find(repository); again != found {
				t.Errorf("%q: %+v, and %+v", repository, found, again)
			}
		}
		if ok && !found.empty() && c.hint(repository) != "" {
			t.Errorf("%q has a login, and is said to have none: %s", repository, c.hint(repository))
		}
		for _, key := range keysFor(repository) {
			if normal := normalKey(key); !strings.HasPrefix(normalKey(repository), normal) {
				t.Errorf("%q leads to %q", key, repository)
			}
		}
	})
}
