package bind

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/verdict"
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

func volume(n *fakecontainerd.Node, target string) string {
	_, hex, _ := strings.Cut(target, ":")
	return "/run/containerd/io.containerd.grpc.v1.cri/image-volumes/" + fakecontainerd.SandboxID + "/" + hex
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

func TestSnapshot(t *testing.T) {
	const uids, gids = "0:100000:65536", "0:200000:65536"
	remapped := func(parent string) string {
		m, _ := mappingOf(map[string]string{labelUIDMapping: uids, labelGIDMapping: gids})
		return remap{Parent: parent, IDMap: m}.name()
	}
	labels := map[string]string{labelUIDMapping: uids, labelGIDMapping: gids}
	for _, test := range []struct {
		name   string
		change func(n *fakecontainerd.Node, chain, other string)
		want   code.Code
	}{
		{"stands on the chain ID", func(n *fakecontainerd.Node, chain, _ string) { n.Snapshot("overlayfs", id, chain, nil) }, ""},
		{"is missing", func(n *fakecontainerd.Node, _, _ string) { delete(n.Snapshots, "overlayfs/"+id) }, code.NotWhatRuns},
		{"stands on another chain ID", func(n *fakecontainerd.Node, _, other string) { n.Snapshot("overlayfs", id, other, nil) }, code.NotWhatRuns},
		{"stands on nothing", func(n *fakecontainerd.Node, _, _ string) { n.Snapshot("overlayfs", id, "", nil) }, code.NotWhatRuns},
		{"is mapped by the snapshotter", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", chain, "below", nil)
			n.Snapshot("overlayfs", id, chain, labels)
		}, ""},
		{"stands on a remapped snapshot", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", remapped(chain), chain, nil)
			n.Snapshot("overlayfs", id, remapped(chain), labels)
		}, ""},
		{"stands on a remapped snapshot of other layers", func(n *fakecontainerd.Node, _, other string) {
			n.Snapshot("overlayfs", remapped(other), other, nil)
			n.Snapshot("overlayfs", id, remapped(other), labels)
		}, code.NotWhatRuns},
		{"stands on a snapshot that only has the remapped one's name", func(n *fakecontainerd.Node, chain, other string) {
			n.Snapshot("overlayfs", remapped(chain), other, nil)
			n.Snapshot("overlayfs", id, remapped(chain), labels)
		}, code.NotWhatRuns},
		{"stands on some snapshot over the chain ID", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", "handmade", chain, nil)
			n.Snapshot("overlayfs", id, "handmade", labels)
		}, code.NotWhatRuns},
		{"stands on a remapped snapshot, without a mapping of its own", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", remapped(chain), chain, nil)
			n.Snapshot("overlayfs", id, remapped(chain), nil)
		}, code.NotWhatRuns},
		{"is another snapshotter's", func(n *fakecontainerd.Node, chain, _ string) {
			delete(n.Snapshots, "overlayfs/"+id)
			n.Snapshot("native", id, chain, nil)
		}, code.NotWhatRuns},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			image := n.Image(t, "layer", "app")
			other := n.Image(t, "other", "other")
			n.Images[tagged] = image.Target()
			n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image})
			test.change(n, image.Chain, other.Chain)
			_, err := bindIt(t, n, tagged)
			if test.want != "" {
				wantCode(t, err, test.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRemapNameIsContainerds(t *testing.T) {
	// Written down from containerd 2.4's own remappedSnapshot.ID.
	const document = `{"Parent":"sha256:aa","IDMap":{"UidMap":[{"containerID":0,"hostID":1000,"size":10}],"GidMap":[{"containerID":0,"hostID":2000,"size":10},{"containerID":10,"hostID":9,"size":1}]}}`
	m, ok := mappingOf(map[string]string{labelUIDMapping: "0:1000:10", labelGIDMapping: "10:9:1,0:2000:10"})
	if got := (remap{Parent: "sha256:aa", IDMap: m}).name(); !ok || got != digest.FromString(document).String() {
		t.Errorf("got %s (%v)", got, ok)
	}
	for _, bad := range []string{"0:1", "0:1:2:3", "a:b:c", "-1:0:1", "0:0:4294967296"} {
		if _, ok := mappingOf(map[string]string{labelUIDMapping: bad}); ok {
			t.Errorf("%q was taken for a mapping", bad)
		}
	}
}

func TestImageVolume(t *testing.T) {
	const name = "registry.example/data:v1"
	for _, test := range []struct {
		name   string
		change func(t *testing.T, n *fakecontainerd.Node, m *fakecontainerd.Mount, data fakecontainerd.Image)
		want   code.Code
	}{
		{"mounted whole", func(*testing.T, *fakecontainerd.Node, *fakecontainerd.Mount, fakecontainerd.Image) {}, ""},
		{"a sub-path of it", func(_ *testing.T, _ *fakecontainerd.Node, m *fakecontainerd.Mount, _ fakecontainerd.Image) {
			m.HostPath += "/sub/path"
		}, ""},
		{"by image ID, as the kubelet asks", func(_ *testing.T, n *fakecontainerd.Node, m *fakecontainerd.Mount, data fakecontainerd.Image) {
			n.Images[data.Config] = data.Target()
			m.Image, m.Written = data.Config, name
		}, ""},
		{"no record of its name", func(_ *testing.T, n *fakecontainerd.Node, _ *fakecontainerd.Mount, _ fakecontainerd.Image) {
			delete(n.Images, name)
		}, code.NoRecord},
		{"the record leads to other layers", func(t *testing.T, n *fakecontainerd.Node, _ *fakecontainerd.Mount, _ fakecontainerd.Image) {
			n.Images[name] = n.Image(t, "signed data", "data").Target()
		}, code.NotWhatRuns},
		{"the mounted snapshot has other layers", func(t *testing.T, n *fakecontainerd.Node, m *fakecontainerd.Mount, _ fakecontainerd.Image) {
			n.Snapshot("overlayfs", m.HostPath, n.Image(t, "evil", "evil").Chain, nil)
		}, code.NotWhatRuns},
		{"no snapshot behind the mount", func(_ *testing.T, n *fakecontainerd.Node, m *fakecontainerd.Mount, _ fakecontainerd.Image) {
			delete(n.Snapshots, "overlayfs/"+m.HostPath)
		}, code.NotWhatRuns},
		{"mounted from somewhere else", func(_ *testing.T, _ *fakecontainerd.Node, m *fakecontainerd.Mount, _ fakecontainerd.Image) {
			m.HostPath = "/etc"
		}, code.UnsupportedRuntime},
		{"mounted from another sandbox", func(_ *testing.T, n *fakecontainerd.Node, m *fakecontainerd.Mount, data fakecontainerd.Image) {
			m.HostPath = strings.Replace(m.HostPath, fakecontainerd.SandboxID, "other", 1)
			n.Snapshot("overlayfs", m.HostPath, data.Chain, nil)
		}, code.UnsupportedRuntime},
		{"a malformed name", func(_ *testing.T, _ *fakecontainerd.Node, m *fakecontainerd.Mount, _ fakecontainerd.Image) {
			m.Image = "Data"
		}, code.BadReference},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			image, data := n.Image(t, "layer", "app"), n.InIndex(t, n.Image(t, "data", "data"))
			n.Images[tagged], n.Images[name] = image.Target(), data.Target()
			mount := fakecontainerd.Mount{Path: "/data", HostPath: volume(n, data.Target()), Image: name}
			n.Snapshot("overlayfs", mount.HostPath, data.Chain, nil)
			test.change(t, n, &mount, data)
			plain := fakecontainerd.Mount{Path: "/etc/hosts", HostPath: "/var/lib/kubelet/hosts"}
			n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image, Mounts: []fakecontainerd.Mount{plain, mount}})
			bound, err := bindIt(t, n, tagged)
			if test.want != "" {
				wantCode(t, err, test.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := Candidate{data.Index, data.Manifest, data.Config}
			if len(bound.Images) != 2 || bound.Images[1].Repository != "registry.example/data" || bound.Images[1].Candidates[0] != want {
				t.Errorf("got %+v, expected %+v", bound.Images, want)
			}
		})
	}
}

func TestTwoVolumesAtOnePathAreBothBound(t *testing.T) {
	n := fakecontainerd.Start(t)
	image, good, evil := n.Image(t, "layer", "app"), n.Image(t, "data", "data"), n.Image(t, "evil", "evil")
	n.Images[tagged], n.Images["registry.example/data:v1"] = image.Target(), good.Target()
	first := fakecontainerd.Mount{Path: "/data", HostPath: volume(n, good.Target()), Image: "registry.example/data:v1"}
	second := fakecontainerd.Mount{Path: "/data", HostPath: volume(n, evil.Target()), Image: "registry.example/data:v1"}
	n.Snapshot("overlayfs", first.HostPath, good.Chain, nil)
	n.Snapshot("overlayfs", second.HostPath, evil.Chain, nil)
	n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image, Mounts: []fakecontainerd.Mount{first, second}})
	_, err := bindIt(t, n, tagged)
	wantCode(t, err, code.NotWhatRuns)
}

func TestUnknownContainerIsRefused(t *testing.T) {
	_, err := bindIt(t, fakecontainerd.Start(t), tagged)
	wantCode(t, err, code.UnsupportedRuntime)
}

func TestContainerThatCRIDidNotMakeIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(n *fakecontainerd.Node)
	}{
		{"no label", func(n *fakecontainerd.Node) { n.Containers[id].Labels = nil }},
		{"a sandbox", func(n *fakecontainerd.Node) { n.Containers[id].Labels["io.cri-containerd.kind"] = "sandbox" }},
		{"no metadata", func(n *fakecontainerd.Node) { n.Containers[id].Extensions = nil }},
		{"metadata of another version", func(n *fakecontainerd.Node) {
			n.Containers[id].Extensions[metadataExtension].Value = []byte(`{"Version":"v2"}`)
		}},
		{"metadata that is no JSON", func(n *fakecontainerd.Node) { n.Containers[id].Extensions[metadataExtension].Value = []byte(`<`) }},
		{"metadata of another container", func(n *fakecontainerd.Node) {
			v := n.Containers[id].Extensions[metadataExtension]
			v.Value = []byte(strings.ReplaceAll(string(v.Value), id, "other"))
		}},
		{"no config digest", func(n *fakecontainerd.Node) {
			v := n.Containers[id].Extensions[metadataExtension]
			v.Value = []byte(strings.ReplaceAll(string(v.Value), `"ImageRef":"sha256:`, `"ImageRef":"`))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			image := n.Image(t, "layer", "app")
			n.Images[tagged] = image.Target()
			n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image})
			if _, err := bindIt(t, n, tagged); err != nil {
				t.Fatal(err)
			}
			test.change(n)
			_, err := bindIt(t, n, tagged)
			wantCode(t, err, code.UnsupportedRuntime)
		})
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

func TestUnreachable(t *testing.T) {
	t.Run("nothing listens", func(t *testing.T) {
		b := newBinder(t, filepath.Join(t.TempDir(), "none.sock"))
		_, err := b.Container(context.Background(), stateOf(tagged), nil)
		wantCode(t, err, code.RuntimeUnreachable)
	})
	t.Run("it hangs", func(t *testing.T) {
		n := fakecontainerd.Start(t)
		n.Delay = time.Minute
		start := time.Now()
		_, err := bindIt(t, n, tagged)
		wantCode(t, err, code.RuntimeUnreachable)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
	t.Run("it accepts and says nothing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "mute.sock")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		_, err = newBinder(t, path).Container(context.Background(), stateOf(tagged), nil)
		wantCode(t, err, code.RuntimeUnreachable)
	})
}

func TestParseState(t *testing.T) {
	for _, test := range []struct {
		name, state string
		want        code.Code
	}{
		{"a container", `{"id":"abc","annotations":{"io.kubernetes.cri.container-type":"container"}}`, ""},
		{"a sandbox", `{"id":"abc","annotations":{"io.kubernetes.cri.container-type":"sandbox"}}`, code.UnsupportedRuntime},
		{"no annotations", `{"id":"abc"}`, code.UnsupportedRuntime},
		{"no id", `{"annotations":{"io.kubernetes.cri.container-type":"container"}}`, code.Malformed},
		{"an id with a path", `{"id":"../abc"}`, code.Malformed},
		{"no JSON", `<state>`, code.Malformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseState([]byte(test.state))
			if test.want != "" {
				wantCode(t, err, test.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLiveFindsByPrefix(t *testing.T) {
	n := fakecontainerd.Start(t)
	image := n.Image(t, "layer", "app")
	n.Images[tagged] = image.Target()
	n.Create(t, fakecontainerd.Container{ID: "abc123", Name: tagged, Image: image})
	n.Create(t, fakecontainerd.Container{ID: "abd456", Name: tagged, Image: image})
	b := newBinder(t, n.Address)
	state, err := b.Live(context.Background(), "abc")
	if err != nil || state.ID != "abc123" || state.Image() != tagged {
		t.Fatalf("got %+v, %v", state, err)
	}
	trace := &verdict.Trace{}
	if _, err := b.Container(context.Background(), state, trace); err != nil {
		t.Fatal(err)
	}
	if len(trace.Steps()) != 3 {
		t.Errorf("got steps %+v", trace.Steps())
	}
	for _, ambiguous := range []string{"ab", "fff", "a.*"} {
		_, err := b.Live(context.Background(), ambiguous)
		wantCode(t, err, code.BadReference)
	}
}
