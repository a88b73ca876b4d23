package bind

import (
	"context"
	"fmt"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

const kindSandbox = "sandbox"

// Sandbox binds the container of a pod's sandbox. Its name is not a user's choice: it is the
// image record that the CRI plugin made it from, as its configuration says. It is bound
// as an image volume is, by the layers that the snapshot stands on. It returns what it
// knows even with an error, which is a *code.Refusal.
func (b *Binder) Sandbox(ctx context.Context, id string) (*Bound, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	bound := &Bound{Container: id}
	response, err := b.containers.Get(ctx, &containersapi.GetContainerRequest{ID: id})
	if isNotFound(err) {
		return bound, code.Refuse(code.UnsupportedRuntime, "containerd has no container "+id, "the sandbox of a pod", "look at containerd's log")
	}
	if err != nil {
		return bound, b.unreachable("sandbox "+id, err)
	}
	container := response.GetContainer()
	if kind := container.GetLabels()[labelKind]; kind != kindSandbox {
		return bound, code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("container %s has label %s=%q", id, labelKind, kind), "the sandbox of a pod", "look at containerd's log")
	}
	bound.Images = []Image{{Name: container.GetImage()}}
	s, image := b.session(), &bound.Images[0]
	name, err := reference.Normalise(image.Name)
	if err != nil {
		return bound, err
	}
	image.Repository = name.Repository
	err = s.bindLayers(ctx, container.GetSnapshotter(), container.GetSnapshotKey(), name, image)
	bound.Raw = s.rawOf(bound.Images)
	return bound, err
}
