package engine

import (
	"context"
	"errors"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
)

// Audit gives the verdict on a container that exists already, as its start would get
// it now.
func (e *Engine) Audit(ctx context.Context, id string) *verdict.Verdict {
	s := subject{layer: verdict.Audit, name: "container " + id, container: id}
	return e.guard(ctx, e.Timeouts.Verdict, s, func(ctx context.Context, s subject) *verdict.Verdict {
		state, err := e.Binder.Live(ctx, id)
		var refusal *code.Refusal
		if errors.As(err, &refusal) && refusal.Code == code.BadReference { // the ID is the runtime's own
			err = code.Refuse(code.Timeout, "the container was removed before it could be judged", "one that is still there", "look for its image among those that are cached: countersign-gate audit --images")
		}
		if err != nil {
			return e.refuse(s, err)
		}
		return e.live(ctx, s, state)
	})
}

// Sandbox gives the verdict on a pod's sandbox that runs. Its start was not judged: no
// hook sees it.
func (e *Engine) Sandbox(ctx context.Context, id string) *verdict.Verdict {
	s := subject{layer: verdict.Audit, name: "sandbox " + id, container: id}
	return e.guard(ctx, e.Timeouts.Verdict, s, func(ctx context.Context, s subject) *verdict.Verdict {
		p := e.policy.Load()
		bound, err := e.Binder.Sandbox(ctx, id)
		s.pod = bound.Pod
		return e.bound(ctx, s, p, bound, err)
	})
}

// live binds a container that exists, and judges what it finds.
func (e *Engine) live(ctx context.Context, s subject, state *bind.State) *verdict.Verdict {
	s.container, s.pod = state.ID, state.Pod()
	return e.container(ctx, s, state)
}

// Cached gives the verdict on what the node itself has under a name. Nothing runs, and
// nobody is told but the caller.
func (e *Engine) Cached(ctx context.Context, name string) *verdict.Verdict {
	s := subject{layer: verdict.Audit, name: name, silent: true}
	return e.guard(ctx, e.Timeouts.Verdict, s, func(ctx context.Context, s subject) *verdict.Verdict {
		parsed, err := reference.Normalise(name)
		if err != nil {
			return e.refuse(s, err)
		}
		s.repository = parsed.Repository
		return e.onNode(ctx, s)
	})
}

// Offline gives an engine that asks no registry, under the policy that is in force now.
// It remembers nothing of this one's, and this one nothing of its.
func (e *Engine) Offline() *Engine {
	parts := e.Parts
	parts.Judge = parts.Offline
	offline := New(parts)
	offline.policy.Store(e.policy.Load())
	return offline
}
