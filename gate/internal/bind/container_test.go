package bind

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
)

const (
	repository = "registry.example/app"
	tagged     = repository + ":v1"
	id         = "c0ffee00"
)

func newBinder(t *testing.T, address string) *Binder {
	t.Helper()
	b, err := New(Config{Address: address, Namespace: fakecontainerd.Namespace, Snapshotters: []string{"overlayfs", "native"}, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func stateOf(name string) *State {
	return &State{ID: id, Annotations: fakecontainerd.Annotations(name)}
}

func bindIt(t *testing.T, n *fakecontainerd.Node, name string) (*Bound, error) {
	t.Helper()
	return newBinder(t, n.Address).Container(context.Background(), stateOf(name), nil)
}

func wantCode(t *testing.T, err error, want code.Code) {
	t.Helper()
	var refusal *code.Refusal
	if !errors.As(err, &refusal) || refusal.Code != want {
		t.Fatalf("got %v, expected %s", err, want)
	}
}

// A case changes one thing of a container that binds; an empty code says that it
// still binds.
var cases = []struct {
	name   string
	change func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container)
	want   code.Code
}{
	{name: "by tag", change: func(*testing.T, *fakecontainerd.Node, *fakecontainerd.Container) {}},
	{name: "by short name", change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Name = "app"
		n.Images["docker.io/library/app:latest"] = c.Image.Target()
	}},
	{name: "by digest", change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Name = repository + "@" + c.Image.Target()
		n.Images[c.Name] = c.Image.Target()
	}},
	{name: "by tag and digest: the tag is dropped", change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Name = tagged + "@" + c.Image.Target()
		n.Images[repository+"@"+c.Image.Target()] = c.Image.Target()
		n.Images[tagged] = digest.FromString("moved").String()
	}},
	{name: "by digest, the record leads elsewhere", want: code.NotWhatRuns, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Name = repository + "@" + n.Image(t, "other", "other").Manifest
		n.Images[c.Name] = c.Image.Target()
	}},
	{name: "by digest of another image that is on the node", want: code.NotWhatRuns, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		other := n.Image(t, "other", "other").Manifest
		c.Name = repository + "@" + other
		n.Images[c.Name] = other
	}},
	{name: "by digest, only the tag's record has it", change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Name = repository + "@" + c.Image.Target()
	}},
	{name: "by digest, only another digest's record is left", want: code.NotWhatRuns, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Name = repository + "@" + digest.FromString("gone").String()
	}},
	{name: "the record moved, the repository's digest record leads there", change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Images[tagged] = n.Image(t, "new", "new").Manifest
		n.Images[repository+"@"+c.Image.Target()] = c.Image.Target()
	}},
	{name: "the record moved, another repository leads there", want: code.NotWhatRuns, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Images[tagged] = n.Image(t, "new", "new").Manifest
		n.Images["registry.example/apple:v1"] = c.Image.Target()
		n.Images["registry.example/app/sub:v1"] = c.Image.Target()
	}},
	{name: "the record moved, one that contradicts its digest leads there", want: code.NotWhatRuns, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Images[tagged] = n.Image(t, "new", "new").Manifest
		n.Images[repository+"@"+digest.FromString("x").String()] = c.Image.Target()
	}},
	{name: "no record of the repository", want: code.NoRecord, change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		delete(n.Images, tagged)
	}},
	{name: "the annotation says another name", want: code.NotWhatRuns, change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Images["registry.example/evil:v1"] = c.Image.Target()
		c.Name = "registry.example/evil:v1"
	}},
	{name: "no name that the user wrote", want: code.UnsupportedRuntime, change: func(_ *testing.T, _ *fakecontainerd.Node, c *fakecontainerd.Container) { c.Name = "" }},
	{name: "a malformed name", want: code.BadReference, change: func(_ *testing.T, _ *fakecontainerd.Node, c *fakecontainerd.Container) { c.Name = "Registry/App" }},
	{name: "a manifest without an index", change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Image.Index = ""
		n.Images[tagged] = c.Image.Manifest
	}},
	{name: "an index inside an index", change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Image = n.InIndex(t, c.Image)
		n.Images[tagged] = c.Image.Index
	}},
	{name: "too many levels of indexes", want: code.Malformed, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		for range maxDepth + 1 {
			c.Image = n.InIndex(t, c.Image)
		}
		n.Images[tagged] = c.Image.Index
	}},
	{name: "a sibling that is not on the node", change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Image = n.InIndex(t, fakecontainerd.Image{Manifest: c.Image.Manifest, Config: c.Image.Config, Chain: c.Image.Chain},
			ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("arm64")})
		n.Images[tagged] = c.Image.Index
	}},
	{name: "a sibling that is damaged", change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		sibling := n.Image(t, "arm64", "arm64").Manifest
		n.Blobs[sibling] = []byte("{}")
		c.Image = n.InIndex(t, fakecontainerd.Image{Manifest: c.Image.Manifest, Config: c.Image.Config, Chain: c.Image.Chain},
			ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(sibling)})
		n.Images[tagged] = c.Image.Index
	}},
	{name: "a config of the same layers, not the one in use", want: code.NotWhatRuns, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Images[tagged] = n.Image(t, "layer", "other entrypoint").Manifest
	}},
	{name: "an index with other bytes", want: code.Tampered, change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Blobs[c.Image.Index] = append([]byte(" "), n.Blobs[c.Image.Index]...)
	}},
	{name: "a manifest with other bytes", want: code.Tampered, change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Blobs[c.Image.Manifest] = append([]byte(" "), n.Blobs[c.Image.Manifest]...)
	}},
	{name: "a config with other bytes", want: code.Tampered, change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Blobs[c.Image.Config] = append([]byte(" "), n.Blobs[c.Image.Config]...)
	}},
	{name: "no config in the store", want: code.NotWhatRuns, change: func(_ *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		delete(n.Blobs, c.Image.Config)
	}},
	{name: "a document that is both index and manifest", want: code.Malformed, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Images[tagged] = n.Blob(t, map[string]any{"manifests": []any{}, "config": map[string]any{"digest": c.Image.Config}, "layers": []any{}})
	}},
	{name: "an index of too many manifests", want: code.Malformed, change: func(t *testing.T, n *fakecontainerd.Node, _ *fakecontainerd.Container) {
		n.Images[tagged] = n.Blob(t, map[string]any{"manifests": make([]struct{}, maxManifests+1)})
	}},
	{name: "a manifest whose config has no digest", want: code.Malformed, change: func(t *testing.T, n *fakecontainerd.Node, _ *fakecontainerd.Container) {
		n.Images[tagged] = n.Blob(t, map[string]any{"config": map[string]any{"digest": "latest"}, "layers": []any{}})
	}},
	{name: "a document over the bound", want: code.Malformed, change: func(t *testing.T, n *fakecontainerd.Node, c *fakecontainerd.Container) {
		n.Images[tagged] = n.Blob(t, map[string]any{"manifests": []any{}, "x": strings.Repeat("x", maxDocument)})
	}},
	{name: "a snapshotter that is listed", change: func(_ *testing.T, _ *fakecontainerd.Node, c *fakecontainerd.Container) { c.Snapshotter = "native" }},
	{name: "a snapshotter that is not listed", want: code.UnsupportedRuntime, change: func(_ *testing.T, _ *fakecontainerd.Node, c *fakecontainerd.Container) { c.Snapshotter = "stargz" }},
	{name: "restored from a checkpoint", want: code.UnsupportedRuntime, change: func(_ *testing.T, _ *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Annotations = map[string]string{"restored": "true"}
	}},
	{name: "other annotations", change: func(_ *testing.T, _ *fakecontainerd.Node, c *fakecontainerd.Container) {
		c.Annotations = map[string]string{"io.kubernetes.container.hash": "1"}
	}},
}

func TestContainer(t *testing.T) {
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			image := n.InIndex(t, n.Image(t, "layer", "app"))
			n.Images[tagged] = image.Target()
			c := fakecontainerd.Container{ID: id, Name: tagged, Image: image}
			test.change(t, n, &c)
			n.Create(t, c)
			annotated := c.Name
			if test.name == "the annotation says another name" {
				annotated = tagged
			}
			bound, err := bindIt(t, n, annotated)
			if test.want != "" {
				wantCode(t, err, test.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := Candidate{c.Image.Index, c.Image.Manifest, c.Image.Config}
			if len(bound.Images) != 1 || len(bound.Images[0].Candidates) != 1 || bound.Images[0].Candidates[0] != want {
				t.Errorf("got %+v, expected %+v", bound.Images, want)
			}
			if got := bound.Images[0]; got.Name != c.Name || !strings.HasSuffix(got.Repository, "/app") {
				t.Errorf("got name %q, repository %q", got.Name, got.Repository)
			}
		})
	}
}

func TestNameInIDFormHasNoRepository(t *testing.T) {
	for _, prefix := range []int{len("sha256:") + 6, len("sha256:") + 64} {
		for _, recorded := range []bool{true, false} {
			n := fakecontainerd.Start(t)
			image := n.InIndex(t, n.Image(t, "layer", "app"))
			name := image.Config[:prefix]
			want := Candidate{Config: image.Config}
			if recorded {
				n.Images[image.Config] = image.Target()
				want = Candidate{image.Index, image.Manifest, image.Config}
			}
			// What the prefix would name if it were taken for a reference.
			n.Images["docker.io/library/"+name] = image.Target()
			n.Create(t, fakecontainerd.Container{ID: id, Name: name, Image: image})
			bound, err := bindIt(t, n, name)
			if err != nil {
				t.Fatal(err)
			}
			if got := bound.Images[0]; got.Repository != "" || got.Candidates[0] != want {
				t.Errorf("%s: got %+v, expected %+v and no repository", name, got, want)
			}
		}
	}
}

func TestUnknownContainerIsRefused(t *testing.T) {
	_, err := bindIt(t, fakecontainerd.Start(t), tagged)
	wantCode(t, err, code.UnsupportedRuntime)
}

// Nodes hold one platform of the many in an index. To ask for the others one after
// another would take longer than a binding may.
func TestManifestsOfAnIndexAreAskedForAtOnce(t *testing.T) {
	n := fakecontainerd.Start(t)
	var absent []ocispec.Descriptor
	for i := range 24 {
		absent = append(absent, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(strconv.Itoa(i))})
	}
	image := n.InIndex(t, n.Image(t, "layer", "app"), absent...)
	n.Images[tagged] = image.Target()
	n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image})
	n.Delay = 60 * time.Millisecond // a binding has 1 s
	if _, err := bindIt(t, n, tagged); err != nil {
		t.Fatal(err)
	}
	if got := n.Calls("Content/Read"); got != 27 { // index, manifest, config, and each that is absent
		t.Errorf("%d reads, expected 27", got)
	}
}

func TestWhereARecordLedBeforeDecidesNothing(t *testing.T) {
	n := fakecontainerd.Start(t)
	image := n.InIndex(t, n.Image(t, "layer", "app"))
	n.Images[tagged] = image.Target()
	n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image})
	b := newBinder(t, n.Address)
	bind := func() error {
		_, err := b.Container(context.Background(), stateOf(tagged), nil)
		return err
	}
	if err := bind(); err != nil {
		t.Fatal(err)
	}
	n.Images[tagged] = n.Image(t, "other", "other").Manifest
	wantCode(t, bind(), code.NotWhatRuns)
	n.Images[tagged] = image.Target()
	if err := bind(); err != nil {
		t.Fatal(err)
	}
}

func TestContentIsReadOnce(t *testing.T) {
	n := fakecontainerd.Start(t)
	image := n.InIndex(t, n.Image(t, "layer", "app"))
	n.Images[tagged] = image.Target()
	n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image})
	b := newBinder(t, n.Address)
	for range 3 {
		if _, err := b.Container(context.Background(), stateOf(tagged), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.Calls("Content/Read"); got != 3 { // index, manifest, config
		t.Errorf("%d reads, expected 3", got)
	}
	if got := n.Calls("Images/Get"); got != 3 { // records move: asked each time
		t.Errorf("%d image look-ups, expected 3", got)
	}
}
