package main

import (
	"net/http"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/testsign"
)

// private has the place's registry want user:secret.
func (p *place) private() {
	open := p.registry.Handler
	p.registry.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "user" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		open.ServeHTTP(w, r)
	})
}

// A private image starts where the node has a credential provider for it, and is
// refused on the same node without.
func TestEvidenceByCredentialProviders(t *testing.T) {
	for _, test := range []struct {
		name     string
		provider bool
		want     code.Code
	}{{"with", true, code.OK}, {"without", false, code.RegistryAuth}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			p.private()
			host, _, _ := strings.Cut(p.name, "/")
			made := testsign.NewProvider(t, host, testsign.Answers("Registry", "", map[string][2]string{host: {"user", "secret"}}))
			if test.provider {
				p.settings.Registry.CredentialProviders = &config.CredentialProviders{Config: made.Config, BinDir: made.BinDir}
			}
			p.start()
			p.want(p.create(), test.want)
			if asked := made.Requests(t); (len(asked) == 1) != test.provider {
				t.Errorf("the provider was asked %q", asked)
			}
		})
	}
}
