package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"countersign/gate/internal/config"
	"countersign/gate/internal/engine"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// margin is what a client waits beyond the gate's own deadline.
const margin = time.Second

// verify has the running gate decide, or this process by what was given to it.
func verify(c *invocation) int {
	if !c.given.wanted() {
		return c.request(wire.Verify)
	}
	p, err := c.given.load(c.arguments[0])
	var source registry.Config
	done := func() error { return nil }
	if err == nil {
		source, done, err = c.given.source()
	}
	if err != nil {
		return c.misused(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), inProcessVerdict+margin)
	defer cancel()
	v, err := c.given.decide(ctx, p, source, c.arguments[0])
	if err = errors.Join(err, done()); err != nil {
		return c.fail(err)
	}
	return c.show(v)
}

func explain(c *invocation) int { return c.request(wire.Explain) }

// request has the running gate decide, so that what is shown is its true state. If
// none runs, this process does it.
func (c *invocation) request(op wire.Op) int {
	settings, err := c.settings()
	if err != nil {
		return c.misused(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(settings.Timeouts.Verdict)+margin)
	defer cancel()
	name := c.arguments[0]
	v, err := wire.Call(ctx, settings.Socket, op, wire.NameRequest{Name: name})
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		fmt.Fprintf(c.stderr, "note: no gate serves %s; deciding in this process\n", settings.Socket)
		v, err = here(ctx, settings, op, name)
	}
	if err != nil {
		return c.fail(err)
	}
	return c.show(v)
}

// show prints a verdict and returns the exit code that goes with it.
func (c *invocation) show(v *verdict.Verdict) int {
	var err error
	if c.json {
		err = c.document(v)
	} else {
		err = writeSteps(c.stdout, v)
	}
	switch {
	case err != nil:
		return c.fail(err)
	case v.Allow:
		return exitOK
	}
	return exitRefused
}

// here decides without a daemon.
func here(ctx context.Context, settings *config.Config, op wire.Op, name string) (*verdict.Verdict, error) {
	store, err := openStore(settings)
	if err != nil {
		return nil, err
	}
	defer store.Flush()
	binder, err := newBinder(settings)
	if err != nil {
		return nil, err
	}
	defer func() { _ = binder.Close() }()
	gate := newEngine(settings, store, binder, silent{}, nil)
	if p, err := settings.PolicyFile().Load(); err != nil {
		gate.RefuseAll(err)
	} else {
		gate.SetPolicy(p)
	}
	return decide(ctx, gate, op, name), nil
}

func decide(ctx context.Context, gate *engine.Engine, op wire.Op, name string) *verdict.Verdict {
	if op == wire.Explain {
		return gate.Explain(ctx, name)
	}
	return gate.Verify(ctx, name)
}

// silent observes nothing.
type silent struct{}

func (silent) Verdict(*verdict.Verdict) {}
func (silent) Verification()            {}

// writeSteps prints each step with its outcome, then what was found.
func writeSteps(w io.Writer, v *verdict.Verdict) error {
	var b strings.Builder
	width := 0
	for _, step := range v.Steps {
		width = max(width, len(step.Name))
	}
	for _, step := range v.Steps {
		mark := "✓"
		if !step.OK {
			mark = "✗"
		}
		fmt.Fprintf(&b, "%s %-*s %8.2f ms  %s\n", mark, width, step.Name, step.Millis, step.Outcome)
	}
	for _, field := range []struct{ name, value string }{
		{"repository", v.Repository}, {"index", v.Index}, {"manifest", v.Manifest}, {"config", v.Config},
		{"container", v.Container}, {"pod", v.Pod}, {"scope", v.Scope}, {"root", v.Root}, {"format", v.Format},
		{"decided from", v.Source}, {"policy", v.Policy},
	} {
		if field.value != "" {
			fmt.Fprintf(&b, "  %-12s %s\n", field.name, field.value)
		}
	}
	for _, detail := range v.Details {
		fmt.Fprintf(&b, "  detail       %s\n", detail)
	}
	fmt.Fprintf(&b, "%s (%.2f ms)\n", v.Message, v.Millis)
	_, err := io.WriteString(w, b.String())
	return err
}

// givenPolicy gives the rendered policy that the argument names; without one it has said why,
// and gives the exit code.
func (c *invocation) givenPolicy() (*policy.Policy, int) {
	data, err := readFile(c.arguments[0], policy.MaxSize)
	if err != nil {
		return nil, c.misused(err)
	}
	p, err := policy.ParseFile(c.arguments[0], data)
	if err != nil {
		return nil, c.end(exitRefused, err)
	}
	return p, exitOK
}

// checkPolicy says whether a rendered policy is valid.
func checkPolicy(c *invocation) int {
	p, ended := c.givenPolicy()
	if p == nil {
		return ended
	}
	lists := make([]string, 0, len(p.Lists))
	for _, list := range p.Lists {
		lists = append(lists, list.String())
	}
	var err error
	if c.json {
		err = c.document(map[string]any{"version": "countersign.checked-policy/v1", "valid": true, "hash": p.Hash,
			"serial": p.Serial, "scopes": len(p.Scopes()), "revocationLists": lists})
	} else {
		_, err = fmt.Fprintf(c.stdout, "valid: %d scopes, %s, serial %d\n", len(p.Scopes()), p.Hash, p.Serial)
		for _, list := range lists {
			_, lineErr := fmt.Fprintf(c.stdout, "revoked: list %s\n", list)
			err = errors.Join(err, lineErr)
		}
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}
