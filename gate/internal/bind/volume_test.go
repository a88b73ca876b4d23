package bind

import (
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
)

// volumeAt is where CRI mounts an image volume, and the key of its snapshot.
func volumeAt(target string) string {
	_, hex, _ := strings.Cut(target, ":")
	return "/run/containerd/io.containerd.grpc.v1.cri/image-volumes/" + fakecontainerd.SandboxID + "/" + hex
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
			mount := fakecontainerd.Mount{Path: "/data", HostPath: volumeAt(data.Target()), Image: name}
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
	first := fakecontainerd.Mount{Path: "/data", HostPath: volumeAt(good.Target()), Image: "registry.example/data:v1"}
	second := fakecontainerd.Mount{Path: "/data", HostPath: volumeAt(evil.Target()), Image: "registry.example/data:v1"}
	n.Snapshot("overlayfs", first.HostPath, good.Chain, nil)
	n.Snapshot("overlayfs", second.HostPath, evil.Chain, nil)
	n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image, Mounts: []fakecontainerd.Mount{first, second}})
	_, err := bindIt(t, n, tagged)
	wantCode(t, err, code.NotWhatRuns)
}
