package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// Whoever asks for JSON gets one document, and nothing else, on stdout, whatever comes of it.
func TestJSONOfErrors(t *testing.T) {
	p := newPlace(t)
	missing := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		args  []string
		exit  int
		found string
	}{
		{[]string{"verify", p.name, "--config", missing}, exitUsage, "none: no such file"},
		{[]string{"verify", p.name, "--key", missing}, exitUsage, "none: no such file"},
		{[]string{"verify"}, exitUsage, "got no argument"},
		{[]string{"verify", "--jsn", "a"}, exitUsage, "unknown option --jsn"},
		{[]string{"verfy"}, exitUsage, "did you mean verify?"},
		{[]string{"check-policy", missing}, exitUsage, "none: no such file"},
		{[]string{"check-policy", p.config}, exitRefused, "POLICY_INVALID"},
		{[]string{"install-policy", p.config, "--config", p.config}, exitRefused, "POLICY_INVALID"},
		{[]string{"evidence", "list", "--config", missing}, exitUsage, "none: no such file"},
		{[]string{"inspect", "A"}, exitUsage, "lowercase"},
		{[]string{"audit", "--runtime", "docker", "--policy", "x"}, exitUsage, `--runtime "docker"`},
		{[]string{"prove", "--verify-receipt", missing, "--key", missing}, exitUsage, "none: no such file"},
		{[]string{"verify-bundle", "--bundle", missing, "--key", missing, missing}, exitUsage, "none: no such file"},
		{[]string{"verify-bundle", "--bundle", p.config, "--key", missing, "sha256:zz"}, exitUsage, "64 hexadecimal digits"},
	} {
		exit, out, stderr := p.do(append(test.args, "--json")...)
		var found failure
		if err := json.Unmarshal([]byte(out), &found); err != nil || exit != test.exit || found.ExitCode != exit ||
			found.Version != errorVersion || !strings.Contains(found.Message, test.found) || found.Found == "" {
			t.Errorf("%q: exit %d, %s%s%v", test.args, exit, out, stderr, err)
		}
		if !strings.HasPrefix(stderr, "error: ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: not one line: %q", test.args, stderr)
		}
		if _, out, _ = p.do(test.args...); out != "" {
			t.Errorf("%q: without --json on stdout: %q", test.args, out)
		}
	}
	for _, args := range [][]string{{"version"}, {"check-policy", p.policy(p.key)}, {"verify", p.name, "--config", p.config}} {
		exit, out, stderr := p.do(append(args, "--json")...)
		var found struct{ Version string }
		if err := json.Unmarshal([]byte(out), &found); err != nil || exit != exitOK || found.Version == errorVersion || found.Version == "" {
			t.Errorf("%q: exit %d, %s%s%v", args, exit, out, stderr, err)
		}
	}
}

// canBeGiven reads arguments as dispatch does, and runs nothing.
func canBeGiven(c command, args []string) (*flag.FlagSet, error) {
	in := &invocation{command: c}
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, some := range c.options {
		some(in, flags)
	}
	arguments, err := interspersed(flags, args)
	if err == nil {
		err = c.counted(arguments)
	}
	return flags, err
}

// Every line of a shell block in the documents that calls this program can be given so.
func TestLinesOfDocuments(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "*/README.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	lines := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
			for _, line := range strings.Split(block[1], "\n") {
				line, _, _ = strings.Cut(line, " #")
				words := strings.Fields(line)
				if len(words) < 2 || words[0] != "countersign-gate" {
					continue
				}
				lines++
				at := slices.IndexFunc(commands, func(c command) bool { return strings.HasPrefix(strings.Join(words[1:], " ")+" ", c.name+" ") })
				if at < 0 {
					t.Errorf("%s: %s: no such command", page, line)
					continue
				}
				c := commands[at]
				if _, err := canBeGiven(c, words[1+len(strings.Fields(c.name)):]); err != nil {
					t.Errorf("%s: %s: %v", page, line, err)
				}
			}
		}
	}
	if lines < 15 {
		t.Errorf("found %d lines", lines)
	}
}

// Each command shows an example that its own options and arguments can read.
func TestExamples(t *testing.T) {
	for _, c := range commands {
		if c.name == "image-verifier" || c.name == "node-files" { // called by containerd, and by set-up
			continue
		}
		flags, err := canBeGiven(c, strings.Fields(c.example))
		if err != nil || c.example == "" {
			t.Errorf("%s %s: %v", c.name, c.example, err)
		}
		flags.VisitAll(func(f *flag.Flag) {
			if value, about := flag.UnquoteUsage(f); about == "" || value == "string" {
				t.Errorf("%s --%s: not explained: %s", c.name, f.Name, f.Usage)
			}
		})
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
		{[]string{"verify", "--help"}, exitOK, "  --key FILE\n", ""},
		{[]string{"help", "verify"}, exitOK, "Example: countersign-gate verify registry.example/app:v1\n", ""},
		{[]string{"agent", "--help"}, exitOK, "(default 30s)\n", ""},
		{[]string{"evidence", "--help"}, exitOK, "evidence list", ""},
		{[]string{"evidence", "list", "--help"}, exitOK, "--json", ""},
		{[]string{"image-verifier", "--help"}, exitOK, "-name REF -digest DIGEST", ""},
		{[]string{"version"}, exitOK, "countersign-gate ", ""},
		{[]string{"--version"}, exitOK, "countersign-gate ", ""},
		{[]string{"halt"}, exitUsage, "", `unknown command "halt"; see countersign-gate --help`},
		{[]string{"verfy"}, exitUsage, "", `unknown command "verfy"; did you mean verify?`},
		{[]string{"check"}, exitUsage, "", "did you mean check-policy?"},
		{[]string{"evidence", "lst"}, exitUsage, "", "did you mean evidence list?"},
		{[]string{"evidence"}, exitUsage, "", "evidence import FILE|-"},
		{[]string{"help", "verfy"}, exitUsage, "", "did you mean verify?"},
		{[]string{"verify", "--jsn", "a"}, exitUsage, "", "unknown option --jsn; did you mean --json?"},
		{[]string{"verify", "--key"}, exitUsage, "", "--key: expected a value"},
		{[]string{"retire", "--within", "x"}, exitUsage, "", `invalid value "x" for --within`},
		{[]string{"verify"}, exitUsage, "", "expected REF, got no argument; usage: countersign-gate verify"},
		{[]string{"verify", "a", "b"}, exitUsage, "", "expected one REF, got 2"},
		{[]string{"verify", "a", "--fail-open"}, exitUsage, "", "unknown option --fail-open; usage"},
		{[]string{"verify", "a", "--config", "/nonexistent.json"}, exitUsage, "", "/nonexistent.json"},
		{[]string{"serve", "--config", "/nonexistent.json"}, exitUsage, "", "/nonexistent.json: no such file or directory; set this node up"},
		{[]string{"serve", "x"}, exitUsage, "", `expected no argument, got "x"`},
	} {
		var stdout, stderr bytes.Buffer
		exit := dispatch(test.args, &stdout, &stderr)
		if exit != test.exit || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: exit %d, %q, %q", test.args, exit, stdout.String(), stderr.String())
		}
		if strings.HasPrefix(stderr.String(), "error: ") && strings.Count(stderr.String(), "\n") != 1 {
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
