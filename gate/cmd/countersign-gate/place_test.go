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
	p := &place{t: t, dir: folder(t), node: fakecontainerd.Start(t), key: testsign.NewKey(t)}
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
		"timeouts":   map[string]any{"registry": "2s", "verdict": "4s", "pull": "6s", "runtime": "2s"},
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
func (p *place) start() (stop func()) { return p.running(enforcing) }

// folder is a temporary folder in which a judgement that nobody waits for any more may still
// put evidence while the test ends; t.TempDir would call that a failure.
func folder(t *testing.T) string {
	dir, err := os.MkdirTemp("", "countersign-gate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for try := 0; os.RemoveAll(dir) != nil && try < 50; try++ {
			time.Sleep(20 * time.Millisecond)
		}
	})
	return dir
}

// running is start for either mode.
func (p *place) running(m mode) (stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, p.settings, next("serve", p.config), m) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
	p.t.Cleanup(stop)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := wire.Call(ctx, p.settings.Socket, wire.Ping, nil); err == nil {
			return stop
		}
		if time.Now().After(deadline) {
			p.t.Fatal("the gate does not serve")
		}
	}
}

func (p *place) create() *verdict.Verdict {
	p.t.Helper()
	v, err := wire.Call(context.Background(), p.settings.Socket, wire.Create, fakecontainerd.State(p.t, container, p.name))
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

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}
