package nri

import (
	"context"

	"github.com/containerd/nri/pkg/api"
)

// observer tells of containers, and takes no part in their creation: it has none of the
// session's other methods.
type observer struct{ session *session }

// Synchronize is the last step of a registration, with what runs already.
func (o *observer) Synchronize(ctx context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	for _, c := range containers {
		if c.GetState() == api.ContainerState_CONTAINER_RUNNING {
			o.session.started(c.GetId())
		}
	}
	return o.session.Synchronize(ctx, pods, containers)
}

// PostStartContainer tells of a container that has started.
func (o *observer) PostStartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	o.session.started(c.GetId())
	return nil
}
