package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
)

const (
	repository = "registry.example/app"
	tagged     = repository + ":v1"
	container  = "c0ffee00"
)

// world is an engine over an in-process containerd, with a judge, a registry and
// a store that do what a test tells them.
type world struct {
	*Engine
	node  *fakecontainerd.Node
	image fakecontainerd.Image
	doc   testsign.PolicyDoc

	mu            sync.Mutex
	judgement     func(ctx context.Context, r judge.Request) judge.Outcome
	judged        []judge.Request
	verdicts      []*verdict.Verdict
	verifications int
	reads         int // of the store
	hash          string
	stored        string            // the digest for which the store has something
	manifests     map[string][]byte // of the registry, by tag or digest; nil: out of reach
	collected     []string
	collecting    chan struct{} // nil, or closed when collecting may begin
}

func (w *world) collection() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.collected)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{node: fakecontainerd.Start(t), hash: "sha256:evidence", manifests: map[string][]byte{}}
	w.image = w.node.InIndex(t, w.node.Image(t, "layer", "app"))
	w.node.Images[tagged] = w.image.Target()
	w.node.Create(t, fakecontainerd.Container{ID: container, Name: tagged, Image: w.image})
	w.judgement = func(context.Context, judge.Request) judge.Outcome { return allowed() }
	binder, err := bind.New(bind.Config{Address: w.node.Address, Namespace: fakecontainerd.Namespace, Snapshotters: []string{"overlayfs"}, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = binder.Close() })
	w.Engine = New(Parts{Binder: binder, Judge: w, Evidence: w, Collector: w, Registry: w, Observer: w,
		Timeouts: Timeouts{Verdict: 2 * time.Second, Pull: 3 * time.Second}})
	w.doc = testsign.PolicyDoc{
		Roots: map[string][]testsign.Key{"k": {testsign.NewKey(t)}},
		Scopes: map[string]any{
			repository:                   map[string]any{"anyOf": []string{"k"}},
			"registry.example/other":     map[string]any{"anyOf": []string{"k"}},
			"registry.example/lax":       map[string]any{"accept": true},
			"registry.example/forbidden": map[string]any{"reject": true},
		},
	}
	w.SetPolicy(w.doc.Parse(t))
	return w
}

func allowed() judge.Outcome {
	return judge.Outcome{Allow: true, Code: code.OK, Root: "k", Format: "bundle", Source: "store", EvidenceHash: "sha256:evidence", Verified: true, Settled: true}
}

func unsigned() judge.Outcome {
	return judge.Outcome{Code: code.Unsigned, Refusal: code.Refuse(code.Unsigned, "nothing", "a signature", "sign it"), Source: "registry", EvidenceHash: "sha256:evidence"}
}

func (w *world) Judge(ctx context.Context, _ *policy.Policy, r judge.Request) judge.Outcome {
	w.mu.Lock()
	w.judged = append(w.judged, r)
	judgement := w.judgement
	w.mu.Unlock()
	return judgement(ctx, r)
}

func (w *world) Read(_ string, digests ...string) (map[string]evidence.Set, string, error) {
	w.mu.Lock()
	w.reads++
	w.mu.Unlock()
	if w.hash == "" {
		return nil, "", errors.New("disk on fire")
	}
	sets := map[string]evidence.Set{}
	for _, dgst := range digests {
		set := evidence.Set{Repository: repository, Digest: dgst}
		if dgst == w.stored {
			set.Bundles = []evidence.Bundle{{JSON: []byte("{}")}}
		}
		sets[dgst] = set
	}
	return sets, w.hash, nil
}

func (w *world) Collect(_ context.Context, repository, digest string) (evidence.Set, evidence.Source, error) {
	if w.collecting != nil {
		<-w.collecting
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.collected = append(w.collected, repository+"@"+digest)
	return evidence.Set{}, evidence.FromRegistry, nil
}

func (w *world) Manifest(_ context.Context, _, tagOrDigest string) (registry.Manifest, error) {
	if w.manifests == nil {
		return registry.Manifest{}, code.Refuse(code.NoEvidenceOffline, "no registry", "one", "")
	}
	raw, ok := w.manifests[tagOrDigest]
	if !ok {
		return registry.Manifest{}, code.Refuse(code.RegistryError, "404", "", "")
	}
	return registry.Manifest{Digest: digest.FromBytes(raw).String(), Raw: raw}, nil
}

func (w *world) Verdict(v *verdict.Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verdicts = append(w.verdicts, v)
}

func (w *world) Verification() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verifications++
}

func (w *world) judgements() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.judged)
}

func (w *world) create(t *testing.T, name string) *verdict.Verdict {
	t.Helper()
	return w.Create(context.Background(), fakecontainerd.State(t, container, name))
}

// named makes the node's container one that was written as name.
func (w *world) named(t *testing.T, name string) {
	w.node.Images[name] = w.image.Target()
	w.node.Create(t, fakecontainerd.Container{ID: container, Name: name, Image: w.image})
}

func wantVerdict(t *testing.T, v *verdict.Verdict, want code.Code) {
	t.Helper()
	if v.Code != want || v.Allow != want.Allows() {
		t.Fatalf("got %v %s (%s), expected %s", v.Allow, v.Code, v.Message, want)
	}
	if word := map[bool]string{true: "allowed ", false: "refused "}[v.Allow]; !strings.HasPrefix(v.Message, "countersign: "+word) || !strings.Contains(v.Message, ": "+string(want)) {
		t.Errorf("message %q", v.Message)
	}
}
