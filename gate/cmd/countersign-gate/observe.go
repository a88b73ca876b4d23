package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"countersign/gate/internal/config"
	"countersign/gate/internal/crio"
	"countersign/gate/internal/handlers"
	"countersign/gate/internal/nri"
	"countersign/gate/internal/observe"
)

// observeNode is serve without a hook: each container that starts is judged, and nothing
// is refused.
func observeNode(c *invocation) int { return c.daemon(observing) }

// withoutHook says why this node cannot be observed only: its runtime gives containers
// the hook, so it enforces, and a gate beside that which lets everything pass would be a
// way to fail open.
func withoutHook(ctx context.Context, settings *config.Config) error {
	found, err := hooks(ctx, settings)
	switch {
	case err != nil:
		return fmt.Errorf("not known whether this node has the hook, and where it has there is no observing: %w", err)
	case len(found) > 0:
		return fmt.Errorf("this node has the hook (%s), so it enforces: expected a runtime without it; run countersign-gate serve, or take the hook out first",
			strings.Join(found, "; "))
	}
	return nil
}

func hooks(ctx context.Context, settings *config.Config) ([]string, error) {
	c := settings.Crio
	if c == nil {
		return handlers.With(ctx, handlers.Config{Address: settings.Containerd.Address, Hook: settings.Containerd.Hook})
	}
	asked, err := crio.Inspect(ctx, c.Socket)
	if err != nil {
		return nil, err
	}
	return asked.Hooked(func(program string) bool { return handlers.IsHook(program, c.Hook) })
}

// startObserving has the runtime tell what starts, and gives the NRI plugin by which
// CRI-O does; nil for none. It ends the gate once the node has the hook.
func startObserving(ctx context.Context, settings *config.Config, observer *observe.Observer, background func(string, func() error), displace func() error) *nri.Plugin {
	go observer.Run(ctx)
	background("hook", func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(handlers.Every):
			}
			if found, err := hooks(ctx, settings); err == nil && len(found) > 0 {
				return withoutHook(ctx, settings)
			}
		}
	})
	if c := settings.Crio; c != nil {
		p := nri.New(nri.Config{Socket: c.NRI, Runtime: c.Socket, Started: observer.Started, Displace: displace})
		p.Start(ctx)
		return p
	}
	background("events", func() error {
		return observe.Containerd(ctx, settings.Containerd.Address, settings.Containerd.Namespace, observer.Compare, observer.Started)
	})
	return nil
}
