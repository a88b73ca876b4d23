package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

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

// Registries count requests for manifests, and the node has these.
func TestJudgingIsGivenTheManifestsThatBindingRead(t *testing.T) {
	w := newWorld(t)
	w.create(t, tagged)
	if len(w.judged) != 1 {
		t.Fatalf("judged %d times, expected once", len(w.judged))
	}
	for _, dgst := range []string{w.image.Index, w.image.Manifest} {
		if got := digest.FromBytes(w.judged[0].Raw[dgst]).String(); got != dgst {
			t.Errorf("the bytes for %s have digest %s", dgst, got)
		}
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

// The runtime shows no more than the beginning of the sentence.
func TestALongNameDoesNotHideTheCode(t *testing.T) {
	w := newWorld(t)
	name := "Registry/" + strings.Repeat("x", 400_000)
	w.named(t, name)
	v := w.create(t, name)
	wantVerdict(t, v, code.BadReference)
	if len(v.Message) > 2048 || len(v.Image) > 1024 {
		t.Errorf("an image of %d bytes, message of %d", len(v.Image), len(v.Message))
	}
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

// bursting is a binder that fails inside.
type bursting struct{ Binder }

func (bursting) Container(context.Context, *bind.State, *verdict.Trace) (*bind.Bound, error) {
	panic("hostile record")
}

func TestAPanicWhileBindingIsARefusal(t *testing.T) {
	w := newWorld(t)
	w.Binder = bursting{w.Binder}
	wantVerdict(t, w.create(t, tagged), code.GateDown)
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
	if v.Image != tagged || len(w.verdicts) != 1 || w.judgements() != 2 {
		t.Errorf("got %+v, %d verdicts, %d judgements", v, len(w.verdicts), w.judgements())
	}
	w.hash = "sha256:changed"
	w.judgement = func(_ context.Context, r judge.Request) judge.Outcome {
		if r.Manifest == volume.Manifest {
			return unsigned()
		}
		return allowed()
	}
	w.verdicts = nil
	if v = w.create(t, tagged); v.Image != data || v.Manifest != volume.Manifest {
		t.Errorf("got %+v", v)
	}
	wantVerdict(t, v, code.Unsigned)
	if !strings.Contains(v.Message, "as the image volume /data: ") {
		t.Errorf("it does not say that it is a volume: %s", v.Message)
	}
	// What is logged is the one verdict that counts: no OK before the refusal.
	if len(w.verdicts) != 1 || w.verdicts[0] != v {
		t.Errorf("%d verdicts were told", len(w.verdicts))
	}
}

func TestAdviceNamesTheImage(t *testing.T) {
	w := newWorld(t)
	w.judgement = func(context.Context, judge.Request) judge.Outcome {
		o := unsigned()
		o.Refusal.Do = "sign the image: ./inv signing.sign --image REF"
		return o
	}
	if v := w.create(t, tagged); !strings.HasSuffix(v.Message, "--image "+tagged) || strings.Contains(v.Message, "by ID") {
		t.Errorf("got %s", v.Message)
	}
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
	w.judgement = func(_ context.Context, r judge.Request) judge.Outcome {
		if r.Manifest == second {
			return allowed()
		}
		o := unsigned()
		o.Code, o.Refusal = code.Revoked, code.Refuse(code.Revoked, "signed with a revoked key", "another", "sign it")
		return o
	}
	w.memory = newMemory()
	wantVerdict(t, w.create(t, tagged), code.OK)
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

// many is a binder whose image goes by several repositories, as one of CRI-O that
// was named by its ID.
type many struct {
	Binder
	repositories []string
}

func (m many) Container(_ context.Context, state *bind.State, _ *verdict.Trace) (*bind.Bound, error) {
	bound := &bind.Bound{Container: state.ID}
	for _, r := range m.repositories {
		bound.Images = append(bound.Images, bind.Image{Name: r + ":v1", Repository: r, ByID: true, Candidates: []bind.Candidate{{Manifest: testsign.Digest([]byte("m")), Config: testsign.Digest([]byte("c"))}}})
	}
	return bound, nil
}

func TestAnImageOfSeveralRepositoriesNeedsEachOfThem(t *testing.T) {
	for _, test := range []struct {
		repositories []string
		want         code.Code
	}{
		{[]string{"registry.example/app", "registry.example/lax"}, code.OK},
		{[]string{"registry.example/app", "registry.example/other"}, code.Unsigned},
		{[]string{"registry.example/other", "registry.example/app"}, code.Unsigned},
	} {
		w := newWorld(t)
		w.judgement = func(_ context.Context, r judge.Request) judge.Outcome {
			if strings.HasSuffix(r.Repository, "/other") {
				return unsigned()
			}
			return allowed()
		}
		w.Binder = many{w.Binder, test.repositories}
		if v := w.create(t, tagged); v.Code != test.want || v.Allow != (test.want == code.OK) {
			t.Errorf("%v: got %s", test.repositories, v.Message)
		}
		if v := w.create(t, tagged); !v.Allow && (!strings.Contains(v.Message, "this is one of the names") || !strings.HasSuffix(v.Message, "crictl rmi registry.example/other:v1")) {
			t.Errorf("it does not say whose name is in the way: %s", v.Message)
		}
	}
}
