package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
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
	hash          string
	manifests     map[string][]byte // of the registry, by tag or digest; nil: out of reach
	collected     []string
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

func (w *world) Hash(string, ...string) (string, error) {
	if w.hash == "" {
		return "", errors.New("disk on fire")
	}
	return w.hash, nil
}

func (w *world) Collect(_ context.Context, repository, digest string) (evidence.Set, evidence.Source, error) {
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

func TestCreateJudgesWhatIsBound(t *testing.T) {
	w := newWorld(t)
	v := w.create(t, tagged)
	wantVerdict(t, v, code.OK)
	want := judge.Request{Repository: repository, Index: w.image.Index, Manifest: w.image.Manifest, Config: w.image.Config}
	if got := w.judged[0]; got.Repository != want.Repository || got.Index != want.Index || got.Manifest != want.Manifest || got.Config != want.Config {
		t.Errorf("judged %+v, expected %+v", got, want)
	}
	if v.Layer != verdict.Create || v.Container != container || v.Pod != "default/pod" || v.Image != tagged || v.Policy == "" || v.Millis <= 0 || v.Steps != nil {
		t.Errorf("got %+v", v)
	}
	if v.Message != "countersign: allowed "+tagged+"@"+w.image.Manifest+": OK: root k, format bundle" {
		t.Errorf("message %q", v.Message)
	}
	if len(w.verdicts) != 1 || w.verdicts[0] != v {
		t.Errorf("%d verdicts were told", len(w.verdicts))
	}
}

func TestBindingComesBeforeEveryRule(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"accept": func(w *world) { w.doc.Scopes[repository] = map[string]any{"accept": true} },
		"reject": func(w *world) { w.doc.Scopes[repository] = map[string]any{"reject": true} },
		"pin":    func(w *world) { w.doc.Pinned = []string{repository + "@" + w.image.Manifest} },
		"revoke": func(w *world) { w.doc.Digests = []string{w.image.Manifest} },
		"sign":   func(*world) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change(w)
			w.SetPolicy(w.doc.Parse(t))
			w.node.Snapshot("overlayfs", container, "sha256:other", nil)
			wantVerdict(t, w.create(t, tagged), code.NotWhatRuns)
			if w.judgements() != 0 {
				t.Error("it was judged")
			}
		})
	}
}

func TestWhatThePolicyAloneDecides(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(w *world)
		image  string
		want   code.Code
	}{
		{"accept", func(*world) {}, "registry.example/lax:v1", code.AcceptedByScope},
		{"reject", func(*world) {}, "registry.example/forbidden:v1", code.RejectedByScope},
		{"no scope", func(*world) {}, "registry.example/unknown:v1", code.NoScope},
		{"pinned manifest", func(w *world) { w.doc.Pinned = []string{"elsewhere.example/x@" + w.image.Manifest} }, "registry.example/unknown:v1", code.PinnedDigest},
		{"pinned index", func(w *world) { w.doc.Pinned = []string{"elsewhere.example/x@" + w.image.Index} }, "registry.example/unknown:v1", code.PinnedDigest},
		{"revoked config", func(w *world) { w.doc.Digests = []string{w.image.Config} }, "registry.example/lax:v1", code.Revoked},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			test.change(w)
			w.SetPolicy(w.doc.Parse(t))
			w.named(t, test.image)
			wantVerdict(t, w.create(t, test.image), test.want)
			if w.judgements() != 0 {
				t.Error("the judge was asked for evidence")
			}
		})
	}
}

func TestNameInIDFormIsForPinsOnly(t *testing.T) {
	w := newWorld(t)
	name := w.image.Config[:len("sha256:")+8]
	w.doc.Scopes["docker.io/library"] = map[string]any{"accept": true}
	w.SetPolicy(w.doc.Parse(t))
	w.named(t, name)
	wantVerdict(t, w.create(t, name), code.NoScope)
	w.doc.Pinned = []string{repository + "@" + w.image.Config}
	w.SetPolicy(w.doc.Parse(t))
	wantVerdict(t, w.create(t, name), code.PinnedDigest)
}

func TestNoPolicyRefusesEverything(t *testing.T) {
	w := newWorld(t)
	fresh := New(w.Parts)
	wantVerdict(t, fresh.Create(context.Background(), fakecontainerd.State(t, container, tagged)), code.PolicyInvalid)
	fresh.RefuseAll(errors.New("line 3"))
	v := fresh.Create(context.Background(), fakecontainerd.State(t, container, tagged))
	wantVerdict(t, v, code.PolicyInvalid)
	if !strings.Contains(v.Message, "line 3") {
		t.Errorf("message %q", v.Message)
	}
	wantVerdict(t, fresh.Pull(context.Background(), wire.PullRequest{Name: tagged, Digest: w.image.Index}), code.PolicyInvalid)
	fresh.SetPolicy(w.doc.Parse(t))
	wantVerdict(t, fresh.Create(context.Background(), fakecontainerd.State(t, container, tagged)), code.OK)
	fresh.RefuseAll(errors.New("a later file is broken"))
	wantVerdict(t, fresh.Create(context.Background(), fakecontainerd.State(t, container, tagged)), code.OK)
}

func TestUnreadableStateIsRefused(t *testing.T) {
	w := newWorld(t)
	wantVerdict(t, w.Create(context.Background(), []byte("<")), code.Malformed)
	wantVerdict(t, w.Create(context.Background(), nil), code.Malformed)
	wantVerdict(t, w.Create(context.Background(), []byte(`{"id":"x"}`)), code.UnsupportedRuntime)
}

func TestPanicIsARefusal(t *testing.T) {
	w := newWorld(t)
	w.judgement = func(context.Context, judge.Request) judge.Outcome { panic("hostile signature") }
	wantVerdict(t, w.create(t, tagged), code.GateDown)
	w.judgement = func(context.Context, judge.Request) judge.Outcome { return allowed() }
	time.Sleep(unsettled + 50*time.Millisecond)
	wantVerdict(t, w.create(t, tagged), code.OK)
}

func TestAllowNeedsAnAllowingCode(t *testing.T) {
	w := newWorld(t)
	w.judgement = func(context.Context, judge.Request) judge.Outcome {
		return judge.Outcome{Allow: true, Code: code.Unsigned, Settled: true}
	}
	if v := w.create(t, tagged); v.Allow {
		t.Errorf("got %+v", v)
	}
}

func TestEveryImageOfAContainerIsJudged(t *testing.T) {
	const data = "registry.example/other:v1"
	w := newWorld(t)
	volume := w.node.Image(t, "data", "data")
	w.node.Images[data] = volume.Target()
	_, hex, _ := strings.Cut(volume.Target(), ":")
	mount := fakecontainerd.Mount{Path: "/data", HostPath: "/run/x/image-volumes/" + fakecontainerd.SandboxID + "/" + hex, Image: data}
	w.node.Snapshot("overlayfs", mount.HostPath, volume.Chain, nil)
	w.node.Create(t, fakecontainerd.Container{ID: container, Name: tagged, Image: w.image, Mounts: []fakecontainerd.Mount{mount}})
	v := w.create(t, tagged)
	wantVerdict(t, v, code.OK)
	if v.Image != tagged || len(w.verdicts) != 2 {
		t.Errorf("got %+v, %d verdicts", v, len(w.verdicts))
	}
	w.hash = "sha256:changed"
	w.judgement = func(_ context.Context, r judge.Request) judge.Outcome {
		if r.Manifest == volume.Manifest {
			return unsigned()
		}
		return allowed()
	}
	if v = w.create(t, tagged); v.Image != data || v.Manifest != volume.Manifest {
		t.Errorf("got %+v", v)
	}
	wantVerdict(t, v, code.Unsigned)
}

// twins makes an index that holds the same config and layers under two manifests.
func twins(t *testing.T, w *world) (first, second string) {
	t.Helper()
	var m ocispec.Manifest
	m.Config = ocispec.Descriptor{Digest: digest.Digest(w.image.Config)}
	m.Layers = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromString("zstd")}}
	zstd := w.node.Blob(t, m)
	w.image = w.node.InIndex(t, fakecontainerd.Image{Manifest: w.image.Manifest, Config: w.image.Config, Chain: w.image.Chain},
		ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(zstd)})
	w.named(t, tagged)
	return zstd, w.image.Manifest
}

func TestOneOfSeveralManifestsOfTheSameContent(t *testing.T) {
	w := newWorld(t)
	first, second := twins(t, w)
	w.judgement = func(_ context.Context, r judge.Request) judge.Outcome {
		if r.Manifest == second {
			return allowed()
		}
		return unsigned()
	}
	v := w.create(t, tagged)
	wantVerdict(t, v, code.OK)
	if v.Manifest != second {
		t.Errorf("got manifest %s, expected %s", v.Manifest, second)
	}
	w.doc.Digests = []string{first}
	w.SetPolicy(w.doc.Parse(t))
	wantVerdict(t, w.create(t, tagged), code.Revoked)
	w.doc.Digests = []string{second}
	w.SetPolicy(w.doc.Parse(t))
	wantVerdict(t, w.create(t, tagged), code.Revoked)
}

func TestRuntimeUnreachable(t *testing.T) {
	w := newWorld(t)
	w.node.Delay = 1500 * time.Millisecond
	wantVerdict(t, w.create(t, tagged), code.RuntimeUnreachable)
}
