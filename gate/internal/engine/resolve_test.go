package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// published gives the registry what the node has.
func (w *world) published(tag string) {
	for d, content := range w.node.Blobs {
		w.manifests[d] = content
	}
	w.manifests[tag] = w.node.Blobs[w.image.Target()]
}

func (w *world) pull(name string) *verdict.Verdict {
	return w.Pull(context.Background(), wire.PullRequest{Name: name, Digest: w.image.Target()})
}

func TestPullJudgesIndexAndThisNodesManifest(t *testing.T) {
	w := newWorld(t)
	w.image = w.node.InIndex(t, fakecontainerd.Image{Manifest: w.image.Manifest, Config: w.image.Config},
		ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("s390x"), Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	w.published("v1")
	v := w.pull(tagged)
	wantVerdict(t, v, code.OK)
	if v.Layer != verdict.Pull || v.Index != w.image.Index || v.Manifest != w.image.Manifest || v.Config != w.image.Config {
		t.Errorf("got %+v", v)
	}
	if raw := w.judged[0].Raw; len(raw[w.image.Index]) == 0 || len(raw[w.image.Manifest]) == 0 {
		t.Error("the judge was not given what was read already")
	}
}

func TestPullOfAManifestWithoutAnIndex(t *testing.T) {
	w := newWorld(t)
	w.image.Index = ""
	w.published("v1")
	v := w.pull(tagged)
	wantVerdict(t, v, code.OK)
	if v.Index != "" || v.Manifest != w.image.Manifest {
		t.Errorf("got %+v", v)
	}
}

func TestPullRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, w *world) (image string)
		want   code.Code
	}{
		{"a malformed name", func(*testing.T, *world) string { return "Registry/App" }, code.BadReference},
		{"a name in ID form", func(_ *testing.T, w *world) string { return w.image.Config }, code.BadReference},
		{"another digest than the name's", func(*testing.T, *world) string { return repository + "@" + digest.FromString("x").String() }, code.NotWhatRuns},
		{"no digest", func(_ *testing.T, w *world) string { w.image = fakecontainerd.Image{Manifest: "latest"}; return tagged }, code.BadReference},
		{"no manifest for this platform", func(t *testing.T, w *world) string {
			w.image.Index = w.node.Blob(t, ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest,
				Digest: digest.Digest(w.image.Manifest), Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}}})
			return tagged
		}, code.Malformed},
		{"a path in place of a digest", func(t *testing.T, w *world) string {
			w.image.Index = w.node.Blob(t, ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: "../../secret/manifests/v1"}}})
			w.manifests["../../secret/manifests/v1"] = w.node.Blobs[w.image.Manifest]
			return tagged
		}, code.Malformed},
		{"an index in an index", func(t *testing.T, w *world) string { w.image = w.node.InIndex(t, w.image); return tagged }, code.Malformed},
		{"a registry out of reach", func(_ *testing.T, w *world) string { w.manifests = nil; return tagged }, code.NoEvidenceOffline},
		{"a registry out of reach and no scope", func(_ *testing.T, w *world) string { w.manifests = nil; return "registry.example/unknown:v1" }, code.NoScope},
		{"an unsigned image", func(_ *testing.T, w *world) string {
			w.judgement = func(context.Context, judge.Request) judge.Outcome { return unsigned() }
			return tagged
		}, code.Unsigned},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			name := test.change(t, w)
			if w.manifests != nil {
				w.published("v1")
			}
			wantVerdict(t, w.pull(name), test.want)
		})
	}
}

func TestPullThatNeedsNoEvidenceNeedsNoRegistry(t *testing.T) {
	w := newWorld(t)
	w.manifests = nil
	wantVerdict(t, w.pull("registry.example/lax:v1"), code.AcceptedByScope)
	w.doc.Pinned = []string{repository + "@" + w.image.Index}
	w.SetPolicy(w.doc.Parse(t))
	wantVerdict(t, w.pull("registry.example/unknown:v1"), code.PinnedDigest)
}

func TestPullUnderAcceptStoresSignatures(t *testing.T) {
	w := newWorld(t)
	w.published("v1")
	wantVerdict(t, w.pull("registry.example/lax:v1"), code.AcceptedByScope)
	if len(w.collected) != 2 || w.collected[0] != "registry.example/lax@"+w.image.Index || w.collected[1] != "registry.example/lax@"+w.image.Manifest {
		t.Errorf("collected %q", w.collected)
	}
}

func TestVerify(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(w *world)
		image  string
		want   code.Code
	}{
		{"by tag", func(*world) {}, tagged, code.OK},
		{"registry out of reach, image on the node", func(w *world) { w.manifests = nil }, tagged, code.OK},
		{"registry out of reach, no image", func(w *world) { w.manifests = nil }, repository + ":v2", code.NoEvidenceOffline},
		{"registry out of reach, no scope", func(w *world) { w.manifests = nil }, "registry.example/unknown:v1", code.NoScope},
		{"no such tag", func(*world) {}, repository + ":v3", code.RegistryError},
		{"malformed", func(*world) {}, "Registry/App", code.BadReference},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.published("v1")
			if strings.HasSuffix(test.image, ":v2") || strings.HasSuffix(test.image, ":v3") {
				delete(w.node.Images, tagged)
			}
			test.change(w)
			v := w.Verify(context.Background(), test.image)
			wantVerdict(t, v, test.want)
			if v.Layer != verdict.Verify || len(v.Steps) == 0 || len(w.verdicts) != 1 {
				t.Errorf("got %+v, %d verdicts", v, len(w.verdicts))
			}
		})
	}
}

func TestVerifyByImageIDLooksOnTheNode(t *testing.T) {
	w := newWorld(t)
	w.node.Images[w.image.Config] = w.image.Target()
	wantVerdict(t, w.Verify(context.Background(), w.image.Config), code.NoScope)
	wantVerdict(t, w.Verify(context.Background(), digest.FromString("x").String()), code.NoRecord)
}

func TestExplainBindsALiveContainer(t *testing.T) {
	w := newWorld(t)
	v := w.Explain(context.Background(), container[:6])
	wantVerdict(t, v, code.OK)
	if v.Container != container || v.Pod != "default/pod" || v.Image != tagged || v.Layer != verdict.Verify || len(v.Steps) < 3 {
		t.Errorf("got %+v", v)
	}
	wantVerdict(t, w.Explain(context.Background(), "feed"), code.BadReference)
	w.published("v1")
	wantVerdict(t, w.Explain(context.Background(), tagged), code.OK)
}
