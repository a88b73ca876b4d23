package main

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One manifest in a registry that is all ours: what rejects, and its twin.
func TestVerdictFollowsThePolicy(t *testing.T) {
	const content = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write([]byte(content))
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for rule, want := range map[string]string{
		`reject`:                 `"allow":false`,
		`insecureAcceptAnything`: `"allow":true`,
	} {
		t.Run(rule, func(t *testing.T) {
			folder := t.TempDir()
			write := func(name, text string) string {
				path := filepath.Join(folder, name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			var out bytes.Buffer
			err := run([]string{
				"--policy", write("policy.json", `{"default":[{"type":"`+rule+`"}]}`),
				"--registries-conf", write("registries.conf", "[[registry]]\nprefix = \"r.test\"\nlocation = \""+host+"\"\ninsecure = true\n"),
				"--registries-d", folder, "r.test/app:v1",
			}, &out)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %s", rule, out.String())
			}
			if rejected := strings.Contains(out.String(), "rejected by policy"); rejected != (rule == "reject") {
				t.Errorf("%s: %s", rule, out.String())
			}
		})
	}
}

func TestNoPolicyIsNoVerdict(t *testing.T) {
	if err := run([]string{"r.test/app:v1"}, &bytes.Buffer{}); err == nil {
		t.Error("ran without a policy")
	}
	options := []string{"--registries-d", t.TempDir(), "--registries-conf", "none", "r.test/app:v1"}
	err := run(append([]string{"--policy", filepath.Join(t.TempDir(), "none")}, options...), &bytes.Buffer{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ran without a policy file: %v", err)
	}
}

// The library falls back to the machine's own folder without it.
func TestNoFolderOfRegistriesIsNoVerdict(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := run([]string{"--policy", policy, "--registries-conf", "none", "r.test/app:v1"}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "--registries-d") {
		t.Errorf("ran without --registries-d: %v", err)
	}
}
