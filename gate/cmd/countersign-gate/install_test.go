package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/wire"
)

// numbered gives the path of a policy of that serial, which the node does not have yet.
func (p *place) numbered(serial int64, key testsign.Key) string {
	p.t.Helper()
	repository, _, _ := strings.Cut(p.name, ":v1")
	return p.write("next.json", map[string]any{
		"version": "countersign.policy/v1", "serial": serial, "pinned": []string{},
		"roots":   map[string]any{"k": map[string]any{"publicKey": map[string]any{"keys": []string{key.PEM}}}},
		"scopes":  map[string]any{repository: map[string]any{"anyOf": []string{"k"}}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
}

func (p *place) install(args ...string) (exit int, stdout, stderr string) {
	p.t.Helper()
	return p.do(append([]string{"install-policy", filepath.Join(p.dir, "next.json"), "--config", p.config}, args...)...)
}

// journal is the daemon's log.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) says(words string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.text.String(), words)
}

func listen(t *testing.T) *journal {
	t.Helper()
	j, before := &journal{}, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(j, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return j
}

func TestAnInstalledPolicyIsInForceOnReturn(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.want(p.create(), code.OK)
	p.numbered(1, testsign.NewKey(t))
	exit, out, _ := p.install("--json")
	var got installed
	if err := json.Unmarshal([]byte(out), &got); err != nil || exit != exitOK || !got.Changed || !got.InForce || got.Serial != 1 || got.Before != 0 {
		t.Fatalf("exit %d, %s, %v", exit, out, err)
	}
	p.want(p.create(), code.BadSignature)
	pong, err := wire.Call(context.Background(), p.settings.Socket, wire.Ping, nil)
	if err != nil || pong.Serial != 1 || pong.Policy != got.Hash || pong.PolicyError != "" {
		t.Errorf("got %+v, %v", pong, err)
	}
	p.numbered(2, p.key)
	if exit, out, _ := p.install(); exit != exitOK || !strings.HasPrefix(out, "installed: serial 2, 1 scopes, sha256:") {
		t.Fatalf("exit %d, %q", exit, out)
	}
	p.want(p.create(), code.OK)
	if exit, out, _ := p.install(); exit != exitOK || !strings.HasPrefix(out, "unchanged: ") {
		t.Errorf("exit %d, %q", exit, out)
	}
}

func TestAnOlderPolicyNeedsForceAndIsLogged(t *testing.T) {
	p := newPlace(t)
	log := listen(t)
	p.start()
	p.numbered(5, p.key)
	if exit, _, stderr := p.install(); exit != exitOK {
		t.Fatalf("exit %d, %q", exit, stderr)
	}
	p.numbered(4, testsign.NewKey(t))
	for _, option := range []string{"--plan", "--json"} {
		exit, out, stderr := p.install(option)
		if exit != exitRefused || strings.HasPrefix(out, "{") != (option == "--json") || !strings.Contains(stderr, "POLICY_INVALID: serial 4, and serial 5 was in force") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, %q", option, exit, out, stderr)
		}
	}
	p.want(p.create(), code.OK)
	if log.says("POLICY FORCED") {
		t.Error("logged before it was forced")
	}
	if exit, out, _ := p.install("--force"); exit != exitOK || !strings.HasPrefix(out, "installed by force: serial 5 was in force") {
		t.Fatalf("exit %d, %q", exit, out)
	}
	p.want(p.create(), code.BadSignature)
	if !log.says(`POLICY FORCED: an older serial is in force" serial=4 before=5`) {
		t.Error("not logged")
	}
	if got := p.metric(`countersign_policy_loads_total{result="forced"}`); got != 1 {
		t.Errorf("counted %v", got)
	}
}

func TestPolicyIsInstalledBeforeTheGateServes(t *testing.T) {
	p := newPlace(t)
	p.numbered(3, testsign.NewKey(t))
	exit, out, stderr := p.install("--json")
	var got installed
	if err := json.Unmarshal([]byte(out), &got); err != nil || exit != exitInfrastructure || !got.Changed || got.InForce || !strings.Contains(stderr, "no gate answers") {
		t.Errorf("exit %d, %s, %q, %v", exit, out, stderr, err)
	}
	p.start()
	p.want(p.create(), code.BadSignature)
}

func TestPolicyKeysOfGateJSONCount(t *testing.T) {
	p := newPlace(t)
	trusted, stranger := testsign.NewKey(t), testsign.NewKey(t)
	content, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	document := map[string]any{}
	if err := json.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	document["policyKeys"] = []string{trusted.PEM}
	p.write("gate.json", document)
	if p.settings, err = config.Load(p.config); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.want(p.create(), code.PolicyInvalid)
	if exit, out, _ := p.do("verify", p.name, "--config", p.config); exit != exitRefused || !strings.Contains(out, "POLICY_INVALID") {
		t.Errorf("exit %d, %q", exit, out)
	}
	next := p.numbered(1, p.key)
	for _, signer := range []testsign.Key{stranger, trusted} {
		data, err := os.ReadFile(next)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		signature, err := signer.Private.Sign(nil, sum[:], signer.Hash)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(next+policy.Signatures, []byte(base64.StdEncoding.EncodeToString(signature)), 0o600); err != nil {
			t.Fatal(err)
		}
		exit, _, stderr := p.install()
		if signer.PEM == trusted.PEM {
			if exit != exitOK {
				t.Errorf("exit %d, %q", exit, stderr)
			}
			p.want(p.create(), code.OK)
			continue
		}
		if exit != exitRefused || !strings.Contains(stderr, "no signature by a key of policyKeys") {
			t.Errorf("exit %d, %q", exit, stderr)
		}
		p.want(p.create(), code.PolicyInvalid)
	}
}

func TestPolicyIsReadFromStdin(t *testing.T) {
	p := newPlace(t)
	p.start()
	content, err := os.Open(p.numbered(1, testsign.NewKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = content
	t.Cleanup(func() { os.Stdin = before; _ = content.Close() })
	if exit, out, stderr := p.do("install-policy", "-", "--config", p.config); exit != exitOK || !strings.HasPrefix(out, "installed: serial 1") {
		t.Errorf("exit %d, %q, %q", exit, out, stderr)
	}
	p.want(p.create(), code.BadSignature)
}

func TestWhatCannotBeInstalled(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.numbered(1, p.key)
	for _, test := range []struct {
		name string
		args []string
		exit int
		says string
	}{
		{"a signature file that is not there", []string{"--signature", filepath.Join(p.dir, "none.sig")}, exitUsage, "none.sig"},
		{"a configuration that is not there", []string{"--config", "/nonexistent.json"}, exitUsage, "/nonexistent.json"},
		{"two files", []string{"b.json"}, exitUsage, "expected one FILE|-, got 2"},
		{"an unknown option", []string{"--trust"}, exitUsage, "trust"},
		{"as it is", nil, exitOK, ""},
	} {
		if exit, _, stderr := p.install(test.args...); exit != test.exit || !strings.Contains(stderr, test.says) {
			t.Errorf("%s: exit %d, %q", test.name, exit, stderr)
		}
	}
}
