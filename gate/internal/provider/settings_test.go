package provider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodSettings = `
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: ecr-credential-provider
  matchImages: ["*.dkr.ecr.*.amazonaws.com", registry.example:5000/team]
  defaultCacheDuration: 12h
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get-credentials]
  env:
  - name: AWS_PROFILE
    value: secret
`

func TestSettingsAreRead(t *testing.T) {
	all, err := parseSettings([]byte(goodSettings))
	if err != nil || len(all) != 1 {
		t.Fatalf("got %+v, %v", all, err)
	}
	s := all[0]
	if s.Name != "ecr-credential-provider" || s.lifetime() != 12*time.Hour || len(s.MatchImages) != 2 || s.Args[0] != "get-credentials" ||
		s.Env[0] != (variable{"AWS_PROFILE", "secret"}) || s.TokenAttributes != nil {
		t.Errorf("got %+v", s)
	}
}

func TestSettingsAreRefused(t *testing.T) {
	for _, test := range []struct{ name, old, changed, says string }{
		{"another version", "kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "expected CredentialProviderConfig"},
		{"another kind", "CredentialProviderConfig", "KubeletConfiguration", "expected CredentialProviderConfig"},
		{"another API", "credentialprovider.kubelet.k8s.io/v1", "credentialprovider.kubelet.k8s.io/v1alpha1", "apiVersion"},
		{"an unknown field", "  args:", "  arguments:", "fields of"},
		{"a path as a name", "name: ecr", "name: ../ecr", "name"},
		{"a folder as a name", "ecr-credential-provider", "..", "name"},
		{"no name", "ecr-credential-provider", `""`, "name"},
		{"no images", `["*.dkr.ecr.*.amazonaws.com", registry.example:5000/team]`, "[]", "matchImages"},
		{"an image that cannot be read", "registry.example:5000", "registry.example:port", "matchImages"},
		{"no duration", "defaultCacheDuration: 12h", "defaultCacheDuration: null", "defaultCacheDuration"},
		{"a negative duration", "12h", "-1s", "defaultCacheDuration"},
		{"a number as a duration", "12h", "12", "fields of"},
		{"a variable that is not one", "AWS_PROFILE", `"A=B"`, "env"},
		{"a zero byte", "get-credentials", `"a\0b"`, "args"},
		{"no YAML", "providers:", "providers: {", "fields of"},
	} {
		changed := strings.Replace(goodSettings, test.old, test.changed, 1)
		_, err := parseSettings([]byte(changed))
		if changed == goodSettings || err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, expected %q", test.name, err, test.says)
		}
	}
}

func TestAFolderOfSettings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readSettings(dir); err == nil {
		t.Error("an empty folder is taken")
	}
	write("b.yml", goodSettings)
	write("a.json", `{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[{"name":"first","matchImages":["x"],"defaultCacheDuration":"0s","apiVersion":"credentialprovider.kubelet.k8s.io/v1"}]}`)
	write("c.txt", "no settings")
	all, err := readSettings(dir)
	if err != nil || len(all) != 2 || all[0].Name != "first" {
		t.Errorf("got %+v, %v", all, err)
	}
	write("d.yaml", goodSettings)
	if _, err := readSettings(dir); err == nil || !strings.Contains(err.Error(), "two providers") {
		t.Errorf("got %v", err)
	}
}
