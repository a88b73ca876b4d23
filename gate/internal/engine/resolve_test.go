package engine

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/registry"
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
		{"too many levels of indexes", func(t *testing.T, w *world) string {
			for range maxLevels + 1 { // beside the one that there is
				w.image = w.node.InIndex(t, w.image)
			}
			return tagged
		}, code.Malformed},
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

// An index in an index is the same image at pull and at start.
func TestAnIndexInAnIndexIsOneVerdict(t *testing.T) {
	for levels := range maxLevels {
		w := newWorld(t)
		for range levels {
			w.image = w.node.InIndex(t, w.image)
		}
		w.named(t, tagged)
		w.published("v1")
		for _, v := range []*verdict.Verdict{w.pull(tagged), w.create(t, tagged), w.Verify(context.Background(), tagged)} {
			wantVerdict(t, v, code.OK)
			if v.Index != w.image.Index || v.Manifest != w.image.Manifest {
				t.Errorf("%s: %s in %s, expected %s in %s", v.Layer, v.Manifest, v.Index, w.image.Manifest, w.image.Index)
			}
		}
	}
}

// counting notes what the registry is asked for.
type counting struct {
	Registry
	asked atomic.Int32
}

func (c *counting) Manifest(ctx context.Context, repository, tagOrDigest string) (registry.Manifest, error) {
	c.asked.Add(1)
	return c.Registry.Manifest(ctx, repository, tagOrDigest)
}

// What the policy refuses by name makes no request to the registry that the name
// chooses. Its twin is refused for want of a signature, and for that it is looked at.
func TestNoRegistryIsAskedAboutANameThatThePolicyRefuses(t *testing.T) {
	for name, want := range map[string]code.Code{
		"evil.example/x:v1":             code.NoScope,
		"registry.example/forbidden:v1": code.RejectedByScope,
		tagged:                          code.Unsigned,
	} {
		w := newWorld(t)
		w.published("v1")
		w.judgement = func(context.Context, judge.Request) judge.Outcome { return unsigned() }
		c := &counting{Registry: w.Registry}
		w.Registry = c
		wantVerdict(t, w.pull(name), want)
		wantVerdict(t, w.Verify(context.Background(), name), want)
		if asked := c.asked.Load() > 0; asked != (want == code.Unsigned) {
			t.Errorf("%s: %d requests", name, c.asked.Load())
		}
	}
	// A pin of the repository's own may be of a manifest, which only the index tells.
	w := newWorld(t)
	w.published("v1")
	w.doc.Pinned = []string{"registry.example/system@" + w.image.Manifest}
	w.SetPolicy(w.doc.Parse(t))
	wantVerdict(t, w.pull("registry.example/system:v1"), code.PinnedDigest)
	wantVerdict(t, w.pull("registry.example/unknown:v1"), code.NoScope)
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
	w.collecting = make(chan struct{})
	wantVerdict(t, w.pull("registry.example/lax:v1"), code.AcceptedByScope) // though nothing is collected yet
	close(w.collecting)
	want := []string{"registry.example/lax@" + w.image.Index, "registry.example/lax@" + w.image.Manifest}
	for end := time.Now().Add(10 * time.Second); !slices.Equal(w.collection(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("collected %q", w.collection())
		}
	}
}

func TestVerify(t *testing.T) {
	unknown := digest.FromString("of no image").String()
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
		{"registry out of reach, signatures asked for", func(w *world) { w.manifests = nil }, "registry.example/other@" + unknown, code.NoEvidenceOffline},
		{"registry out of reach, accepted", func(w *world) { w.manifests = nil }, "registry.example/lax@" + unknown, code.AcceptedByScope},
		{"registry out of reach, accepted by tag", func(w *world) { w.manifests = nil }, "registry.example/lax:v1", code.NoEvidenceOffline},
		{"registry out of reach, accepted and revoked", func(w *world) {
			w.manifests = nil
			w.doc.Digests = []string{unknown}
			w.SetPolicy(w.doc.Parse(t))
		}, "registry.example/lax@" + unknown, code.Revoked},
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

// A container that ended meanwhile says nothing about its image.
func TestAuditOfAContainerThatIsGone(t *testing.T) {
	w := newWorld(t)
	for id, want := range map[string]code.Code{container: code.OK, "feed": code.Timeout} {
		wantVerdict(t, w.Audit(context.Background(), id), want)
	}
}
