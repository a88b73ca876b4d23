package testsign

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Provider is a credential provider of the kubelet's kind: a shell script, and the
// configuration that names it.
type Provider struct {
	Config   string // the CredentialProviderConfig
	BinDir   string
	Settings map[string]any // of the provider, as Config has them
	runs     string
}

// NewProvider makes a provider for images that match, whose script is body. It finds
// its request in $REQUEST, and what is in Settings can be changed until Write.
func NewProvider(t testing.TB, match, body string) *Provider {
	t.Helper()
	dir := t.TempDir()
	p := &Provider{Config: filepath.Join(dir, "config.yaml"), BinDir: filepath.Join(dir, "bin"), runs: filepath.Join(dir, "runs")}
	p.Settings = map[string]any{
		"name": "provider", "matchImages": []string{match}, "defaultCacheDuration": "10m",
		"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "args": []string{"get"},
		"env": []map[string]string{{"name": "RUNS", "value": p.runs}},
	}
	if err := os.Mkdir(p.BinDir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nREQUEST=$(cat)\necho \"$REQUEST\" >> \"$RUNS\"\n" + body + "\n"
	if err := os.WriteFile(filepath.Join(p.BinDir, "provider"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	p.Write(t, p.Settings)
	return p
}

// Write writes the configuration, of these providers.
func (p *Provider) Write(t testing.TB, providers ...map[string]any) {
	t.Helper()
	content, err := json.Marshal(map[string]any{"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": providers})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Config, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Requests gives what the provider was asked so far, a JSON document each.
func (p *Provider) Requests(t testing.TB) []string {
	t.Helper()
	content, err := os.ReadFile(p.runs)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")[:strings.Count(string(content), "\n")]
}

// Answers is a script that answers with logins for these keys.
func Answers(kind, duration string, logins map[string][2]string) string {
	auth := map[string]map[string]string{}
	for key, login := range logins {
		auth[key] = map[string]string{"username": login[0], "password": login[1]}
	}
	answer := map[string]any{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse", "cacheKeyType": kind, "auth": auth}
	if duration != "" {
		answer["cacheDuration"] = duration
	}
	content, _ := json.Marshal(answer) // of strings
	return "cat <<'END'\n" + string(content) + "\nEND"
}
