package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/policy"
)

const signedByCanary = `{"version":"countersign.policy/v1","roots":{"canary":{"publicKey":{"keys":["KEY"]}}},"scopes":{"r.example":{"anyOf":["canary"]}},"pinned":[],"revoked":{"keys":[],"certificates":[],"digests":[]}}`

func TestAPolicyIsPrintedForTheEngineOfCrio(t *testing.T) {
	document := strings.ReplaceAll(signedByCanary, "KEY", strings.ReplaceAll(policy.CanaryKey, "\n", `\n`))
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args   []string
		wanted map[string]string // scope -> type of its rule
	}{
		"from a file": {[]string{path}, map[string]string{"r.example": "sigstoreSigned"}},
		"from stdin":  {[]string{"-"}, map[string]string{"r.example": "sigstoreSigned"}},
		"lenient":     {[]string{"--crio-engine", "lenient", "-"}, map[string]string{"r.example": "insecureAcceptAnything"}},
		"with two tags": {[]string{"-", "--tag", "busybox", "--tag", "r.example/pause:3.10"}, map[string]string{
			"r.example": "sigstoreSigned", "docker.io/library/busybox:latest": "insecureAcceptAnything", "r.example/pause:3.10": "insecureAcceptAnything",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, said bytes.Buffer
			fromStdin(t, []byte(document))
			exit := dispatch(append([]string{"crio-policy"}, c.args...), &out, &said)
			var found struct{ Version, Policy, RegistriesD string }
			if err := json.Unmarshal(out.Bytes(), &found); exit != exitOK || err != nil || found.Version != crioPolicyVersion {
				t.Fatalf("got %d, %v, %q: %s", exit, err, found.Version, said.String())
			}
			var rendered struct {
				Transports struct {
					Docker map[string][]struct{ Type string }
				}
			}
			if err := json.Unmarshal([]byte(found.Policy), &rendered); err != nil {
				t.Fatal(err)
			}
			for scope, wanted := range c.wanted {
				if got := rendered.Transports.Docker[scope]; len(got) != 1 || got[0].Type != wanted {
					t.Errorf("%s: got %v, expected %s", scope, got, wanted)
				}
			}
			if len(rendered.Transports.Docker) != len(c.wanted)+2 { // and the canary's
				t.Errorf("got %v", rendered.Transports.Docker)
			}
			if wanted := "docker:\n    r.example:\n        use-sigstore-attachments: true\n"; found.RegistriesD != wanted {
				t.Errorf("got %q, expected %q", found.RegistriesD, wanted)
			}
		})
	}
}

func TestWhatIsNotAPolicyIsNotPrintedForTheEngineOfCrio(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		in   string
		exit int
		says string
	}{
		"not a policy":   {[]string{"-"}, "{}", exitRefused, "POLICY_INVALID"},
		"no file":        {[]string{"/nowhere/policy.json"}, "", exitUsage, "no such file"},
		"another engine": {[]string{"--crio-engine", "lax", "-"}, "", exitUsage, `--crio-engine "lax", expected strict or lenient`},
		"not a name":     {[]string{"--tag", "a b", "-"}, "", exitUsage, "BAD_REFERENCE"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			fromStdin(t, []byte(c.in))
			if exit := dispatch(append([]string{"crio-policy"}, c.args...), io.Discard, &said); exit != c.exit || !strings.Contains(said.String(), c.says) {
				t.Errorf("got %d, %s; expected %d, %s", exit, said.String(), c.exit, c.says)
			}
		})
	}
}
