package nri

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/containerd/nri/pkg/api"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/verdict"
)

// session handles one connection's requests.
type session struct {
	*Plugin
	ready  chan struct{}
	synced atomic.Bool
	runs   func(ctx context.Context, handler string) error
}

// Synchronize is the last step of a registration. Containers that run already are
// left alone. With its answer the runtime counts this plugin and drops those whose
// connections are closed, in one step, and creates nothing before.
func (s *session) Synchronize(context.Context, []*api.PodSandbox, []*api.Container) ([]*api.ContainerUpdate, error) {
	if err := s.displace(); err != nil {
		return nil, err
	}
	if s.synced.CompareAndSwap(false, true) {
		close(s.ready)
	}
	return nil, nil
}

// handler gives what answers on a session; only one that adds hooks takes part in
// the creation of containers, for each part costs every start a question.
func (p *Plugin) handler(s *session) any {
	switch {
	case p.started != nil:
		return &observer{s}
	case p.adds:
		return &adder{s}
	}
	return s
}

func (p *Plugin) name() string {
	if p.started != nil {
		return Name + "-observe"
	}
	return Name
}

// adder is a session that puts the hook in as well.
type adder struct{ *session }

// CreateContainer adds the hook to a container that lacks it.
func (s *adder) CreateContainer(_ context.Context, pod *api.PodSandbox, container *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	if s.hooked(container.GetHooks()) {
		return nil, nil, nil
	}
	slog.Warn("NRI: hooks.d gave the container no hook; adding it", "container", container.GetId(), "pod", pod.GetNamespace()+"/"+pod.GetName())
	adjustment := &api.ContainerAdjustment{}
	adjustment.AddHooks(&api.Hooks{CreateRuntime: []*api.Hook{{Path: s.hook[0], Args: s.hook, Timeout: api.Int(hookTimeout)}}})
	return adjustment, nil, nil
}

// ValidateContainerAdjustment refuses a container that is to be made without the
// hook, or in a runtime that may not run it. It is asked after every plugin's adjustments, also where the answer above
// came too late to count; where it is itself too late, the runtime refuses.
func (s *session) ValidateContainerAdjustment(ctx context.Context, r *api.ValidateContainerAdjustmentRequest) error {
	id := bounded.Text(r.GetContainer().GetId(), verdict.MaxName)
	if s.hooked(r.GetContainer().GetHooks()) || s.hooked(r.GetAdjust().GetHooks()) {
		if err := s.runs(ctx, handlerOf(r.GetPod())); err != nil {
			return refused(id, err)
		}
		return nil
	}
	source := "base_runtime_spec of its runtime handler"
	if s.adds {
		source = "hooks.d"
	}
	return refused(id, code.Refuse(code.GateDown, "it would start without the hook "+s.hook[0], "the hook in its spec", "look at "+source+", and run set-up again"))
}

// refused logs a refusal, which is before any verdict, and words it for the runtime.
func refused(container string, why error) error {
	slog.Warn("NRI: refused", "container", container, "why", why)
	return fmt.Errorf("countersign: refused container %s: %w", container, why)
}

// handlerOf gives the runtime handler of a pod. An annotation that containerd still follows
// picks one that the pod does not name.
func handlerOf(pod *api.PodSandbox) string {
	if pod.GetRuntimeHandler() == "" && pod.GetAnnotations()["io.kubernetes.cri.untrusted-workload"] == "true" {
		return "untrusted"
	}
	return pod.GetRuntimeHandler()
}

// hooked says whether our hook is among a container's, with the gate that it asks.
func (p *Plugin) hooked(hooks *api.Hooks) bool {
	return slices.ContainsFunc(hooks.GetCreateRuntime(), func(h *api.Hook) bool {
		return h.GetPath() == p.hook[0] && len(h.GetArgs()) == len(p.hook) && slices.Equal(h.GetArgs()[1:], p.hook[1:])
	})
}
