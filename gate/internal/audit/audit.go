// Package audit judges what is on the node already: the containers that run, as their
// start would be judged now, and the images that are cached. It reports; only on
// request does it stop what is refused.
package audit

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/cri"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

// Version of the JSON form of a report.
const Version = "countersign.audit/v1"

const (
	// atOnce bounds what is judged side by side: the daemon serves starts meanwhile.
	atOnce = 4
	// maxEntries bounds a list of the report.
	maxEntries = 4096
)

// Runtime says what runs and what is cached (package cri).
type Runtime interface {
	Running(ctx context.Context) ([]cri.Container, error)
	Sandboxes(ctx context.Context) ([]cri.Container, error)
	Images(ctx context.Context) ([]cri.Image, error)
	Stop(ctx context.Context, id string) error
}

// Judge gives the verdicts (package engine).
type Judge interface {
	Audit(ctx context.Context, id string) *verdict.Verdict
	Sandbox(ctx context.Context, id string) *verdict.Verdict
	Cached(ctx context.Context, name string) *verdict.Verdict
	Policy() *policy.Policy
}

// Report is what was found.
type Report struct {
	Version    string    `json:"version"`
	Time       time.Time `json:"time"`
	Policy     string    `json:"policy"`           // sha256 of the policy file, "" where it is invalid
	Refused    int       `json:"refused"`          // of those that run
	Containers []Entry   `json:"containers"`       // that run
	Sandboxes  []Entry   `json:"sandboxes"`        // of pods that run: the process that holds a pod's namespaces, and that no hook sees
	Images     []Entry   `json:"images,omitempty"` // that are cached; none where they were not asked for
	NotJudged  int       `json:"notJudged"`        // what is beyond the bound of a list
}

// Entry is the verdict on one container, or on one cached image.
type Entry struct {
	Container string    `json:"container,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Pod       string    `json:"pod,omitempty"`
	Name      string    `json:"name,omitempty"` // of the container in its pod
	Image     string    `json:"image"`          // as it was written, or as the store names it
	Digest    string    `json:"digest,omitempty"`
	Allow     bool      `json:"allow"`
	Code      code.Code `json:"code"`
	Message   string    `json:"message"`
	Details   []string  `json:"details,omitempty"`
	Scope     string    `json:"scope,omitempty"`
	Remedy    string    `json:"remedy,omitempty"` // the line of policy that would allow it; "" where none would
	Stop      string    `json:"stop,omitempty"`   // what became of it with --stop

	pinned bool
}

// Run judges what runs, and with images what is cached. What ended meanwhile is left
// out. The error is the runtime's.
func Run(ctx context.Context, runtime Runtime, judge Judge, images bool) (*Report, error) {
	r := &Report{Version: Version, Time: time.Now().UTC()}
	if p := judge.Policy(); p != nil {
		r.Policy = p.Hash
	}
	for _, kind := range []struct {
		entries *[]Entry
		list    func(context.Context) ([]cri.Container, error)
		judge   func(context.Context, string) *verdict.Verdict
	}{{&r.Containers, runtime.Running, judge.Audit}, {&r.Sandboxes, runtime.Sandboxes, judge.Sandbox}} {
		running, err := kind.list(ctx)
		if err != nil {
			return nil, err
		}
		*kind.entries = judgeAll(judge.Policy(), within(r, running), func(c cri.Container) (Entry, *verdict.Verdict) {
			return Entry{Container: c.ID, Namespace: c.Namespace, Pod: c.Pod, Name: c.Name}, kind.judge(ctx, c.ID)
		})
		if *kind.entries, err = leaveOutEnded(ctx, *kind.entries, kind.list); err != nil {
			return nil, err
		}
		r.Refused += refused(*kind.entries)
	}
	if !images {
		return r, nil
	}
	cached, err := runtime.Images(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, image := range cached {
		names = append(names, image.Names...)
	}
	r.Images = judgeAll(judge.Policy(), within(r, names), func(name string) (Entry, *verdict.Verdict) {
		return Entry{}, judge.Cached(ctx, name)
	})
	return r, nil
}

func within[T any](r *Report, items []T) []T {
	r.NotJudged += max(0, len(items)-maxEntries)
	return items[:min(len(items), maxEntries)]
}

// judgeAll judges side by side, and keeps the order.
func judgeAll[T any](p *policy.Policy, items []T, one func(T) (Entry, *verdict.Verdict)) []Entry {
	entries := make([]Entry, len(items))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, item := range items {
		group.Go(func() error {
			entry, v := one(item)
			entries[i] = entry.with(p, v)
			return nil
		})
	}
	_ = group.Wait() // what goes wrong is a verdict
	return entries
}

// with fills in the verdict.
func (e Entry) with(p *policy.Policy, v *verdict.Verdict) Entry {
	e.Image, e.Allow, e.Code, e.Message, e.Details, e.Scope = v.Image, v.Allow, v.Code, v.Message, v.Details, v.Scope
	for _, name := range []*string{&e.Namespace, &e.Pod, &e.Name} {
		*name = bounded.Text(*name, verdict.MaxName)
	}
	for _, e.Digest = range []string{v.Manifest, v.Index, v.Config} {
		if e.Digest != "" {
			break
		}
	}
	if p != nil && !e.Allow {
		_, e.pinned = p.Pinned(v.Index, v.Manifest, v.Config)
		e.Remedy = remedy(v)
	}
	return e
}

// leaveOutEnded drops what is refused and does not run any more: what it ran could no
// longer be found, or it does not matter.
func leaveOutEnded(ctx context.Context, entries []Entry, list func(context.Context) ([]cri.Container, error)) ([]Entry, error) {
	if refused(entries) == 0 {
		return entries, nil
	}
	still, err := list(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e Entry) bool {
		return !e.Allow && !slices.ContainsFunc(still, func(c cri.Container) bool { return c.ID == e.Container })
	}), nil
}

func refused(entries []Entry) (n int) {
	for _, e := range entries {
		if !e.Allow {
			n++
		}
	}
	return n
}

// unknown are the codes of images about which nothing was found out: that they are
// refused is not a reason to stop what runs.
var unknown = []code.Code{
	code.NoEvidenceOffline, code.RegistryError, code.RegistryAuth, code.Timeout,
	code.GateDown, code.RuntimeUnreachable, code.PolicyInvalid,
}

// What Stop leaves in an entry; else it is "not stopped: " with the reason.
const (
	stopped    = "stopped"
	notStopped = "not stopped: "
)

// Stop stops the containers that are refused, but none whose refusal says only that no
// verdict could be had, none whose image is pinned, and no sandbox. It says in each entry
// what became of it.
func (r *Report) Stop(ctx context.Context, runtime Runtime) {
	for i := range r.Containers {
		e := &r.Containers[i]
		switch {
		case e.Allow:
			continue
		case slices.Contains(unknown, e.Code):
			e.Stop = notStopped + string(e.Code) + " is not a verdict on the image"
			continue
		case e.pinned:
			e.Stop = notStopped + "the image is pinned"
			continue
		}
		e.Stop = stopped
		if err := runtime.Stop(ctx, e.Container); err != nil {
			e.Stop = notStopped + bounded.Text(strings.TrimSpace(err.Error()), verdict.MaxName)
		}
	}
}
