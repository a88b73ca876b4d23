package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// place is a whole node: a containerd, a registry, and a gate that runs as the
// command does.
type place struct {
	t        *testing.T
	dir      string
	config   string
	settings *config.Config
	node     *fakecontainerd.Node
	registry *front
	key      testsign.Key
	name     string // of the image, by tag
	image    fakecontainerd.Image
}

const container = "c0ffee00"

// front is a registry that counts requests, and can be cut off.
type front struct {
	http.Handler
	mu    sync.Mutex
	asked int
	off   bool
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked++
	off := f.off
	f.mu.Unlock()
	if off {
		panic(http.ErrAbortHandler)
	}
	f.Handler.ServeHTTP(w, r)
}

// newPlace has one image in its registry, signed by bundle, that a container of
// the node uses. The gate does not run yet.
func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir(), node: fakecontainerd.Start(t), key: testsign.NewKey(t)}
	p.registry = &front{Handler: testsign.Handler(true)}
	host := testsign.Serve(t, p.registry)
	p.name = host + "/demo/app:v1"
	p.image = p.node.Image(t, "layer", "app")
	pusher := testsign.Pusher{Handler: p.registry.Handler, Path: "demo/app"}
	pusher.Blob(t, p.node.Blobs[p.image.Config])
	pusher.Manifest(t, p.node.Blobs[p.image.Manifest], ocispec.MediaTypeImageManifest, "v1")
	pusher.Bundles(t, p.image.Manifest, false, testsign.Bundle(t, p.key, p.image.Manifest))
	p.node.Images[p.name] = p.image.Target()
	p.node.Create(t, fakecontainerd.Container{ID: container, Name: p.name, Image: p.image})

	p.config = p.write("gate.json", map[string]any{
		"policy": filepath.Join(p.dir, "policy.json"), "socket": filepath.Join(p.dir, "gate.sock"),
		"log": filepath.Join(p.dir, "verdicts.jsonl"), "metrics": "unix:" + filepath.Join(p.dir, "metrics.sock"),
		"evidence":   map[string]any{"dir": filepath.Join(p.dir, "evidence")},
		"containerd": map[string]any{"address": p.node.Address},
		"registry":   map[string]any{"certsDir": ""},
		"timeouts":   map[string]any{"registry": "1s", "verdict": "2s", "pull": "3s", "runtime": "500ms"},
	})
	p.policy(p.key)
	settings, err := config.Load(p.config)
	if err != nil {
		t.Fatal(err)
	}
	p.settings = settings
	return p
}

func (p *place) write(name string, document any) string {
	p.t.Helper()
	content, err := json.Marshal(document)
	if err != nil {
		p.t.Fatal(err)
	}
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// policy asks for a signature by key in the image's repository.
func (p *place) policy(key testsign.Key) string {
	repository, _, _ := strings.Cut(p.name, ":v1")
	return p.write("policy.json", map[string]any{
		"version": "countersign.policy/v1", "pinned": []string{},
		"roots":   map[string]any{"k": map[string]any{"publicKey": map[string]any{"keys": []string{key.PEM}}}},
		"scopes":  map[string]any{repository: map[string]any{"anyOf": []string{"k"}}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
}

// start runs the gate until stop is called, or the test ends.
func (p *place) start() (stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, p.settings) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
	p.t.Cleanup(stop)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := wire.Ask(ctx, p.settings.Socket, wire.Ping, nil); err == nil {
			return stop
		}
		if time.Now().After(deadline) {
			p.t.Fatal("the gate does not serve")
		}
	}
}

func (p *place) create() *verdict.Verdict {
	p.t.Helper()
	v, err := wire.Ask(context.Background(), p.settings.Socket, wire.Create, fakecontainerd.State(p.t, container, p.name))
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (p *place) want(v *verdict.Verdict, c code.Code) {
	p.t.Helper()
	if v.Code != c || v.Allow != c.Allows() {
		p.t.Fatalf("got %s, expected %s", v.Message, c)
	}
}

// metric reads one line of the gate's metrics.
func (p *place) metric(name string) float64 {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(p.dir, "metrics.sock"))
	}}}
	response, err := client.Get("http://gate/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(response.Body); err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return number
		}
	}
	return 0
}

// do runs a command as the command line does.
func (p *place) do(args ...string) (exit int, stdout, stderr string) {
	p.t.Helper()
	var out, err bytes.Buffer
	exit = dispatch(args, &out, &err)
	return exit, out.String(), err.String()
}

func (p *place) verifier() (exit int, stdout string) {
	p.t.Helper()
	p.t.Setenv(config.Env, p.config)
	descriptor := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7}`, ocispec.MediaTypeImageManifest, p.image.Manifest)
	var out bytes.Buffer
	exit = imageVerifier([]string{"-name", p.name, "-digest", p.image.Manifest, "-stdin-media-type", ocispec.MediaTypeDescriptor}, strings.NewReader(descriptor), &out)
	return exit, out.String()
}

func TestFiftyParallelStartsCauseOneVerification(t *testing.T) {
	p := newPlace(t)
	p.start()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			v, err := wire.Ask(context.Background(), p.settings.Socket, wire.Create, fakecontainerd.State(t, container, p.name))
			if err != nil || !v.Allow {
				t.Errorf("got %+v, %v", v, err)
			}
		})
	}
	group.Wait()
	if got := p.metric("countersign_verifications_total"); got != 1 {
		t.Errorf("%v verifications, expected 1", got)
	}
	if got := p.metric(`countersign_verdicts_total{code="OK",layer="create"}`); got != 50 {
		t.Errorf("%v verdicts, expected 50", got)
	}
}

func TestEvidenceOfAPullServesAStartWithoutNetworkAndAfterARestart(t *testing.T) {
	p := newPlace(t)
	stop := p.start()
	if exit, out := p.verifier(); exit != exitOK || !strings.HasPrefix(out, "countersign: allowed "+p.name+"@") {
		t.Fatalf("exit %d, %q", exit, out)
	}
	p.registry.off = true
	p.want(p.create(), code.OK)
	stop()
	p.start()
	v := p.create()
	p.want(v, code.OK)
	if v.Source != string(evidence.FromStore) {
		t.Errorf("from %q", v.Source)
	}
}

func TestNoEvidenceAndNoRegistry(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.registry.off = true
	p.want(p.create(), code.NoEvidenceOffline)
	if exit, out := p.verifier(); exit != exitRefused || !strings.Contains(out, ": NO_EVIDENCE_OFFLINE: ") {
		t.Errorf("exit %d, %q", exit, out)
	}
	p.registry.mu.Lock()
	p.registry.off = false
	p.registry.mu.Unlock()
	time.Sleep(1100 * time.Millisecond) // as long as a failed look-up is remembered
	p.want(p.create(), code.OK)
}

func TestReloadedPolicyCounts(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.want(p.create(), code.OK)
	p.policy(testsign.NewKey(t))
	eventually(t, func() bool { return p.create().Code == code.BadSignature })
	if err := os.WriteFile(filepath.Join(p.dir, "policy.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return p.metric("countersign_policy_valid") == 0 })
	p.want(p.create(), code.BadSignature)
	p.policy(p.key)
	eventually(t, func() bool { return p.create().Code == code.OK })
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}

func TestInvalidPolicyAtStartRefusesEverything(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(filepath.Join(p.dir, "policy.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.want(p.create(), code.PolicyInvalid)
	p.policy(p.key)
	eventually(t, func() bool { return p.create().Code == code.OK })
}

func TestSecondGateIsRefused(t *testing.T) {
	p := newPlace(t)
	p.start()
	if err := run(context.Background(), p.settings); err == nil || !strings.Contains(err.Error(), "another gate") {
		t.Errorf("got %v", err)
	}
	p.want(p.create(), code.OK)
}

func TestVerdictsAreLogged(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.want(p.create(), code.OK)
	content, err := os.ReadFile(filepath.Join(p.dir, "verdicts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var v verdict.Verdict
	if err := json.Unmarshal(content, &v); err != nil || v.Layer != verdict.Create || v.Image != p.name || v.Manifest != p.image.Manifest {
		t.Errorf("got %+v, %v", v, err)
	}
}

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
