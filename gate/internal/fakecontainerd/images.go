package fakecontainerd

import (
	"encoding/json"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"
)

// Image is an image in the fake's content store.
type Image struct {
	Index    string // "" for a manifest alone
	Manifest string
	Config   string
	Chain    string // chain ID of the layers
}

// Target gives the digest that a record of the image leads to.
func (i Image) Target() string {
	if i.Index != "" {
		return i.Index
	}
	return i.Manifest
}

// Blob stores a document and returns its digest.
func (n *Node) Blob(t testing.TB, document any) string {
	t.Helper()
	content, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(content).String()
	n.Blobs[d] = content
	return d
}

// Image stores an image with one layer, whose content marker stands for, and a
// config with that label.
func (n *Node) Image(t testing.TB, layer, label string) Image {
	t.Helper()
	layers := []digest.Digest{digest.FromString("base"), digest.FromString(layer)}
	config := n.Blob(t, ocispec.Image{
		Platform: platforms.DefaultSpec(),
		Config:   ocispec.ImageConfig{Labels: map[string]string{"marker": label}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: layers},
	})
	manifest := n.Blob(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.Digest(config)},
		Layers:    []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("gz" + layer)}},
	})
	return Image{Manifest: manifest, Config: config, Chain: identity.ChainID(layers).String()}
}

// InIndex stores an index of an image, with siblings before it, and returns the
// image as seen through the index.
func (n *Node) InIndex(t testing.TB, image Image, siblings ...ocispec.Descriptor) Image {
	t.Helper()
	platform := platforms.DefaultSpec()
	own := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(image.Manifest), Platform: &platform}
	if image.Index != "" {
		own = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.Digest(image.Index)}
	}
	image.Index = n.Blob(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: append(siblings, own),
	})
	return image
}

// Container is a container to be, as CRI would write it down.
type Container struct {
	ID          string
	Name        string // as the user wrote it
	Image       Image
	Annotations map[string]string
	Mounts      []Mount
	Snapshotter string // overlayfs if ""
}

// Mount is a CRI mount; Image and Written are empty for one that is not an image volume.
type Mount struct {
	Path, HostPath string
	Image          string // what CRI was asked to mount
	Written        string // what the user wrote
}

// SandboxID is the sandbox of every container of the fake.
const SandboxID = "5a0db0c5"

// Create writes down a container and its snapshot.
func (n *Node) Create(t testing.TB, c Container) {
	t.Helper()
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	n.Containers[c.ID] = &containersapi.Container{
		ID:          c.ID,
		Labels:      map[string]string{"io.cri-containerd.kind": "container"},
		Snapshotter: c.Snapshotter,
		SnapshotKey: c.ID,
		Spec:        anyJSON(t, "types.containerd.io/opencontainers/runtime-spec/1/Spec", map[string]any{"annotations": Annotations(c.Name)}),
		Extensions: map[string]*anypb.Any{
			"io.cri-containerd.container.metadata": anyJSON(t, "github.com/containerd/cri/pkg/store/container/Metadata", c.metadata()),
		},
	}
	n.Snapshot(c.Snapshotter, c.ID, c.Image.Chain, nil)
}

// Sandbox writes down the container of the pod's sandbox, made from an image record.
func (n *Node) Sandbox(name string, image Image) {
	n.Containers[SandboxID] = &containersapi.Container{
		ID: SandboxID, Image: name, Labels: map[string]string{"io.cri-containerd.kind": "sandbox"},
		Snapshotter: "overlayfs", SnapshotKey: SandboxID,
	}
	n.Snapshot("overlayfs", SandboxID, image.Chain, nil)
}

// Snapshot writes down a snapshot.
func (n *Node) Snapshot(snapshotter, key, parent string, labels map[string]string) {
	n.Snapshots[snapshotter+"/"+key] = &snapshotsapi.Info{Name: key, Parent: parent, Kind: snapshotsapi.Kind_ACTIVE, Labels: labels}
}

// metadata is the JSON of internal/cri/store/container.Metadata.
func (c Container) metadata() any {
	var mounts []map[string]any
	for _, m := range c.Mounts {
		mount := map[string]any{"container_path": m.Path, "host_path": m.HostPath, "readonly": true}
		if m.Image != "" {
			mount["image"] = map[string]string{"image": m.Image, "user_specified_image": m.Written}
		}
		mounts = append(mounts, mount)
	}
	return map[string]any{
		"Version": "v1",
		"Metadata": map[string]any{
			"ID": c.ID, "Name": "app_pod_default_0", "SandboxID": SandboxID, "ImageRef": c.Image.Config,
			"Config": map[string]any{
				"metadata":    map[string]string{"name": "app"},
				"image":       map[string]string{"image": c.Image.Config, "user_specified_image": c.Name},
				"annotations": c.Annotations,
				"mounts":      mounts,
			},
		},
	}
}

// Annotations are those that containerd's CRI plugin puts into a container's spec.
func Annotations(name string) map[string]string {
	return map[string]string{
		"io.kubernetes.cri.container-type":    "container",
		"io.kubernetes.cri.image-name":        name,
		"io.kubernetes.cri.sandbox-id":        SandboxID,
		"io.kubernetes.cri.sandbox-name":      "pod",
		"io.kubernetes.cri.sandbox-namespace": "default",
	}
}

// State is the OCI state that a hook is given for a container.
func State(t testing.TB, id, name string) []byte {
	t.Helper()
	content, err := json.Marshal(map[string]any{
		"ociVersion": "1.2.0", "id": id, "status": "creating", "pid": 1, "bundle": "/run/x", "annotations": Annotations(name),
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}
