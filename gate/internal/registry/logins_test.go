package registry

import (
	"context"
	"testing"

	"countersign/gate/internal/provider"
	"countersign/gate/internal/testsign"
)

// A request that is given up, since another host had the answer, leaves no host
// without its login.
func TestWhoGivesUpSettlesNoLogin(t *testing.T) {
	p := testsign.NewProvider(t, "registry.example", "sleep 0.2\n"+testsign.Answers("Image", "", map[string][2]string{"registry.example": {"user", "secret"}}))
	l := &logins{providers: provider.New(provider.Config{Config: p.Config, BinDir: p.BinDir}), image: "registry.example/app", byHost: map[string]*account{}}
	l.add("registry.example", "registry.example/app")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	l.want(gone, "registry.example")
	if user, _, _ := l.of("registry.example"); user != "" {
		t.Errorf("who gave up has the login of %q", user)
	}
	l.want(t.Context(), "registry.example")
	l.want(t.Context(), "registry.example")
	if user, _, _ := l.of("registry.example"); user != "user" || len(p.Requests(t)) != 1 {
		t.Errorf("got %q, after %d runs", user, len(p.Requests(t)))
	}
}
