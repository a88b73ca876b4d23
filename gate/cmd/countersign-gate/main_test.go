package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/verdict"
)

func TestVerifyAndExplain(t *testing.T) {
	for _, running := range []bool{true, false} {
		p := newPlace(t)
		if running {
			p.start()
		}
		unknown := strings.Replace(p.name, "/demo/app", "/other", 1)
		for _, test := range []struct {
			args []string
			exit int
			says string
		}{
			{[]string{"verify", p.name}, exitOK, "countersign: allowed " + p.name},
			{[]string{"verify", unknown}, exitRefused, ": NO_SCOPE: "},
			{[]string{"verify", "Registry/App"}, exitRefused, ": BAD_REFERENCE: "},
			{[]string{"explain", p.name}, exitOK, "scope"},
			{[]string{"explain", container[:6]}, exitOK, "container    " + container},
			{[]string{"explain", "feed"}, exitRefused, ": BAD_REFERENCE: "},
		} {
			exit, out, stderr := p.do(append(test.args, "--config", p.config)...)
			if exit != test.exit || !strings.Contains(out, test.says) {
				t.Errorf("running %v: %q: exit %d, %s%s", running, test.args, exit, out, stderr)
			}
			if strings.Contains(stderr, "no gate serves") == running {
				t.Errorf("running %v: %q", running, stderr)
			}
		}
		exit, out, _ := p.do("verify", "--json", p.name, "--config", p.config)
		var v verdict.Verdict
		if err := json.Unmarshal([]byte(out), &v); err != nil || exit != exitOK || v.Layer != verdict.Verify || len(v.Steps) == 0 {
			t.Errorf("got %+v, %v", v, err)
		}
	}
}

func TestCheckPolicy(t *testing.T) {
	p := newPlace(t)
	if exit, out, _ := p.do("check-policy", p.policy(p.key)); exit != exitOK || !strings.HasPrefix(out, "valid: 1 scopes, sha256:") {
		t.Errorf("exit %d, %q", exit, out)
	}
	if exit, _, stderr := p.do("check-policy", p.config); exit != exitRefused || !strings.Contains(stderr, "POLICY_INVALID") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", exit, stderr)
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		exit   int
		stdout string
		stderr string
	}{
		{nil, exitUsage, "", "countersign-gate COMMAND"},
		{[]string{"--help"}, exitOK, "verify REF", ""},
		{[]string{"verify", "--help"}, exitOK, "-json", ""},
		{[]string{"version"}, exitOK, "countersign-gate ", ""},
		{[]string{"--version"}, exitOK, "countersign-gate ", ""},
		{[]string{"halt"}, exitUsage, "", `unknown command "halt"`},
		{[]string{"verify"}, exitUsage, "", "usage: countersign-gate verify"},
		{[]string{"verify", "a", "b"}, exitUsage, "", "expected 1 arguments, got 2"},
		{[]string{"verify", "a", "--fail-open"}, exitUsage, "", "fail-open"},
		{[]string{"verify", "a", "--config", "/nonexistent.json"}, exitUsage, "", "/nonexistent.json"},
		{[]string{"serve", "--config", "/nonexistent.json"}, exitUsage, "", "/nonexistent.json"},
		{[]string{"serve", "x"}, exitUsage, "", "expected 0 arguments"},
	} {
		var stdout, stderr bytes.Buffer
		exit := dispatch(test.args, &stdout, &stderr)
		if exit != test.exit || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: exit %d, %q, %q", test.args, exit, stdout.String(), stderr.String())
		}
		if test.exit == exitUsage && len(test.args) > 0 && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: not one line: %q", test.args, stderr.String())
		}
	}
}

func TestImageVerifierRefuses(t *testing.T) {
	p := newPlace(t)
	t.Setenv(config.Env, p.config)
	good := []string{"-name", p.name, "-digest", p.image.Manifest, "-stdin-media-type", ocispec.MediaTypeDescriptor}
	for _, test := range []struct {
		name  string
		args  []string
		stdin string
		want  code.Code
	}{
		{"no gate", good, fmt.Sprintf(`{"digest":%q}`, p.image.Manifest), code.GateDown},
		{"another descriptor", good, `{"digest":"sha256:1"}`, code.Malformed},
		{"no descriptor", good, ``, code.Malformed},
		{"no name", good[2:], ``, code.Malformed},
		{"an unknown flag", append([]string{"-allow"}, good...), ``, code.Malformed},
	} {
		var out bytes.Buffer
		if exit := imageVerifier(test.args, strings.NewReader(test.stdin), &out); exit != exitRefused || !strings.Contains(out.String(), ": "+string(test.want)+": ") {
			t.Errorf("%s: exit %d, %q", test.name, exit, out.String())
		}
	}
	t.Setenv(config.Env, "/nonexistent.json")
	var out bytes.Buffer
	if exit := imageVerifier(good, strings.NewReader(fmt.Sprintf(`{"digest":%q}`, p.image.Manifest)), &out); exit != exitRefused || !strings.Contains(out.String(), ": GATE_DOWN: ") {
		t.Errorf("no configuration: exit %d, %q", exit, out.String())
	}
}
