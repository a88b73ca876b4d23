package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
)

// keyFile writes a public key beside the place's other files.
func (p *place) keyFile(name string, key testsign.Key) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(key.PEM), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func TestVerifyInProcessSaysWhatTheGateSays(t *testing.T) {
	p := newPlace(t)
	t.Setenv("TMPDIR", t.TempDir())
	good, other := p.keyFile("good.pub", p.key), p.keyFile("other.pub", testsign.NewKey(t))
	for _, test := range []struct {
		name string
		args []string
		gate testsign.Key // the one that the running gate's policy trusts
		exit int
	}{
		{"the key", []string{"--key", good}, p.key, exitOK},
		{"any of two", []string{"--key", other, "--key", good}, p.key, exitOK},
		{"another key", []string{"--key", other}, testsign.NewKey(t), exitRefused},
		{"the policy", []string{"--policy", p.policy(p.key)}, p.key, exitOK},
	} {
		p.policy(test.gate)
		here := p.verdict(test.exit, test.args...)
		if err := os.RemoveAll(p.settings.Evidence.Dir); err != nil { // what it remembers is not a step of ours
			t.Fatal(err)
		}
		gate := p.verdict(test.exit, "--config", p.config)
		if here.Code != gate.Code || !slices.Equal(steps(here), steps(gate)) {
			t.Errorf("%s: in process %s %q, gate %s %q", test.name, here.Code, steps(here), gate.Code, steps(gate))
		}
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestVerifyInProcessOnNoNode(t *testing.T) {
	p := newPlace(t)
	key := p.keyFile("good.pub", p.key)
	for _, test := range []struct {
		name string
		want code.Code
	}{
		{"Registry/App", code.BadReference},
		{strings.Repeat("ab", 32), code.BadReference},
		{strings.Replace(p.name, ":v1", ":v2", 1), code.RegistryError},
	} {
		exit, out, stderr := p.do("verify", test.name, "--key", key, "--json")
		if exit != exitRefused || !strings.Contains(out, `"`+string(test.want)+`"`) {
			t.Errorf("%s: exit %d, %s%s", test.name, exit, out, stderr)
		}
	}
}

func TestVerifyInProcessUsage(t *testing.T) {
	p := newPlace(t)
	key := p.keyFile("good.pub", p.key)
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"--key", key, "--policy", p.policy(p.key)}, "got both"},
		{[]string{"--key", "/nonexistent.pub"}, "/nonexistent.pub"},
		{[]string{"--key", p.config}, "--key " + p.config + ": POLICY_INVALID: roots.key.publicKey.keys[0]: no PEM block"},
		{[]string{"--key", p.config}, "; give the public half of a key"},
		{[]string{"--policy", p.config}, "POLICY_INVALID"},
		{[]string{"--policy", p.config}, "policy.render"},
		{[]string{"--docker-config", "x"}, "go with --key or --policy"},
	} {
		exit, _, stderr := p.do(append([]string{"verify", p.name}, test.args...)...)
		if exit != exitUsage || !strings.Contains(stderr, test.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q", test.args, exit, stderr)
		}
	}
}

func TestVerifyInProcessWithoutATemporaryFolder(t *testing.T) {
	p := newPlace(t)
	key := p.keyFile("good.pub", p.key)
	for _, test := range []struct {
		folder string
		exit   int
	}{{t.TempDir(), exitOK}, {filepath.Join(t.TempDir(), "gone"), exitInfrastructure}, {key, exitInfrastructure}} {
		t.Setenv("TMPDIR", test.folder)
		exit, _, stderr := p.do("verify", p.name, "--key", key)
		if exit != test.exit || exit != exitOK && (!strings.Contains(stderr, test.folder) || strings.Count(stderr, "\n") != 1) {
			t.Errorf("%s: exit %d, %q", test.folder, exit, stderr)
		}
	}
}

// verdict asks for one as JSON.
func (p *place) verdict(exit int, args ...string) *verdict.Verdict {
	p.t.Helper()
	got, out, stderr := p.do(append([]string{"verify", p.name, "--json"}, args...)...)
	var v verdict.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil || got != exit {
		p.t.Fatalf("%q: exit %d, %s%s, %v", args, got, out, stderr, err)
	}
	return &v
}

// steps names a verdict's steps, in order.
func steps(v *verdict.Verdict) []string {
	var names []string
	for _, step := range v.Steps {
		names = append(names, step.Name)
	}
	return names
}
