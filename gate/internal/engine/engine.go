// Package engine makes verdicts: it has an image bound or resolved first, has it
// judged next, and remembers the outcome of the judgement alone.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/verdict"
)

// Binder says what a container runs (packages bind and crio).
type Binder interface {
	State(content []byte) (*bind.State, error)
	Container(ctx context.Context, state *bind.State, trace *verdict.Trace) (*bind.Bound, error)
	Live(ctx context.Context, id string) (*bind.State, error)
	Sandbox(ctx context.Context, id string) (*bind.Bound, error)
	Lookup(ctx context.Context, written string, trace *verdict.Trace) ([]bind.Candidate, error)
}

// Judge decides step 5 (package judge).
type Judge interface {
	Judge(ctx context.Context, p *policy.Policy, r judge.Request) judge.Outcome
}

// Evidence reads what the node's store holds, and identifies it (package evidence).
type Evidence interface {
	Read(repository string, digests ...string) (sets map[string]evidence.Set, hash string, err error)
}

// Collector brings signatures into the node's store (package evidence).
type Collector interface {
	Collect(ctx context.Context, repository, digest string) (evidence.Set, evidence.Source, error)
}

// Registry resolves names (package registry).
type Registry interface {
	Manifest(ctx context.Context, repository, tagOrDigest string) (registry.Manifest, error)
}

// Observer is told of every verdict and of every real verification. Its methods
// are called by many goroutines.
type Observer interface {
	Verdict(v *verdict.Verdict)
	Verification()
}

// Timeouts bound the engine's work.
type Timeouts struct {
	Verdict time.Duration
	Pull    time.Duration
}

// Parts are what an Engine is put together from.
type Parts struct {
	Binder    Binder
	Judge     Judge
	Offline   Judge // asks no registry; for Engine.Offline
	Evidence  Evidence
	Collector Collector
	Registry  Registry
	Observer  Observer
	Timeouts  Timeouts
}

// Engine makes verdicts. It is safe for any number of goroutines.
type Engine struct {
	Parts
	policy  atomic.Pointer[loaded]
	memory  *memory
	storing chan struct{} // what storeLater does at once
}

// maxStoring bounds how many images' signatures are stored at once for later.
const maxStoring = 2

// loaded is a policy, or why there is none.
type loaded struct {
	policy  *policy.Policy
	refusal *code.Refusal
}

// New makes an engine that refuses everything until it gets a policy.
func New(parts Parts) *Engine {
	e := &Engine{Parts: parts, memory: newMemory(), storing: make(chan struct{}, maxStoring)}
	e.policy.Store(&loaded{refusal: code.Refuse(code.PolicyInvalid, "no policy is loaded yet", "a valid policy", "look at the gate's log")})
	return e
}

// SetPolicy puts a policy in force, for every request that begins from now on.
func (e *Engine) SetPolicy(p *policy.Policy) { e.policy.Store(&loaded{policy: p}) }

// RefuseAll makes every verdict a refusal while there is no valid policy. Once
// one was in force it stays, and RefuseAll changes nothing.
func (e *Engine) RefuseAll(why error) {
	var refusal *code.Refusal
	if !errors.As(why, &refusal) {
		refusal = code.Refuse(code.PolicyInvalid, why.Error(), "a valid policy", "render the policy to this node again")
	}
	if current := e.policy.Load(); current.policy == nil {
		e.policy.CompareAndSwap(current, &loaded{refusal: refusal})
	}
}

// Policy gives the policy in force; nil if there is none.
func (e *Engine) Policy() *policy.Policy { return e.policy.Load().policy }

// PolicyHash identifies the policy in force; "" if there is none.
func (e *Engine) PolicyHash() string {
	if p := e.policy.Load().policy; p != nil {
		return p.Hash
	}
	return ""
}

// subject is one image on its way to a verdict.
type subject struct {
	layer      verdict.Layer
	name       string // as written
	repository string
	volume     string // where it is mounted; "" for the container's own image
	byID       bool   // as bind.Image
	container  string
	pod        string
	podUID     string
	silent     bool // another verdict tells it
	candidates []bind.Candidate
	beside     []string // as bind.Image
	raw        map[string][]byte
	trace      *verdict.Trace
	start      time.Time
}

// Create gives the verdict on a container that is about to start; state is the
// OCI state as the hook sent it.
func (e *Engine) Create(ctx context.Context, state []byte) *verdict.Verdict {
	return e.guard(ctx, e.Timeouts.Verdict, subject{layer: verdict.Create, name: "this container"}, func(ctx context.Context, s subject) *verdict.Verdict {
		parsed, err := e.Binder.State(state)
		if parsed != nil {
			s.container, s.pod, s.podUID = parsed.ID, parsed.Pod(), parsed.PodUID()
			if parsed.Image() != "" {
				s.name = parsed.Image()
			}
		}
		if err != nil {
			return e.refuse(s, err)
		}
		return e.container(ctx, s, parsed)
	})
}

// container binds a container and judges all of its images. The verdict, of which
// there is one, is the first refusal, else that on the container's own image.
func (e *Engine) container(ctx context.Context, s subject, state *bind.State) *verdict.Verdict {
	p := e.policy.Load()
	bound, err := e.Binder.Container(ctx, state, s.trace)
	return e.bound(ctx, s, p, bound, err)
}

// bound judges what a binding gave.
func (e *Engine) bound(ctx context.Context, s subject, p *loaded, bound *bind.Bound, err error) *verdict.Verdict {
	if len(bound.Images) > 0 {
		s.name, s.repository = bound.Images[0].Name, bound.Images[0].Repository
		s.candidates = bound.Images[0].Candidates
	}
	if err != nil {
		return e.refuse(s, err)
	}
	s.raw, s.silent = bound.Raw, true
	images := distinct(p.policy, bound.Images)
	verdicts := make([]*verdict.Verdict, len(images))
	var group errgroup.Group
	group.SetLimit(maxAtOnce)
	for i, image := range images {
		one := s
		one.name, one.repository, one.candidates, one.volume = image.Name, image.Repository, image.Candidates, image.Volume
		one.byID = image.ByID
		one.beside = image.Beside
		judgeOne := func() { verdicts[i] = e.safely(one, func() *verdict.Verdict { return e.judge(ctx, p, one) }) }
		if i == len(images)-1 {
			judgeOne()
			break
		}
		group.Go(func() error { judgeOne(); return nil })
	}
	_ = group.Wait() // what goes wrong is a verdict
	v := verdicts[0]
	if refused := slices.IndexFunc(verdicts, func(v *verdict.Verdict) bool { return !v.Allow }); refused >= 0 {
		v = verdicts[refused]
	}
	v.Millis = verdict.Millis(time.Since(s.start))
	e.Observer.Verdict(v)
	return v
}

// judge decides on the candidates of a subject under one policy.
func (e *Engine) judge(ctx context.Context, p *loaded, s subject) *verdict.Verdict {
	if p.policy == nil {
		return e.refuse(s, p.refusal)
	}
	if len(s.candidates) == 0 {
		return e.refuse(s, code.Refuse(code.NotWhatRuns, "nothing to judge", "an image", "report this as a bug"))
	}
	best, chosen := e.best(ctx, p.policy, s)
	v := e.begin(s, chosen)
	v.Policy = p.policy.Hash
	v.Scope, v.Root, v.Format, v.Details, v.Source = best.Scope, best.Root, best.Format, best.Details, best.Source
	v.Attestations, v.Until = best.Attestations, best.Expires
	if s.trace != nil {
		v.Steps = append(s.trace.Steps(), best.Steps...)
	}
	v.Code = best.Code
	v.Allow = best.Allow && best.Code.Allows()
	if v.Allow {
		v.Message = fmt.Sprintf("countersign: allowed %s: %s: %s", full(s.name, chosen), v.Code, why(best))
	} else {
		v.Message = fmt.Sprintf("countersign: refused %s: %s", full(s.name, chosen), s.sentence(best))
	}
	return e.finish(v, s)
}

func (e *Engine) budget(layer verdict.Layer) time.Duration {
	if layer == verdict.Pull {
		return e.Timeouts.Pull
	}
	return e.Timeouts.Verdict
}

// refuse makes the verdict of an error that came before any judgement.
func (e *Engine) refuse(s subject, err error) *verdict.Verdict {
	var refusal *code.Refusal
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		refusal = code.Refuse(code.Timeout, "no verdict in time: "+err.Error(), "an answer within "+e.budget(s.layer).String(), "look at the gate's log")
	default:
		refusal = code.Refuse(code.GateDown, err.Error(), "a verdict", "look at the gate's log")
	}
	chosen := bind.Candidate{}
	if len(s.candidates) > 0 {
		chosen = s.candidates[0]
	}
	v := e.begin(s, chosen)
	v.Policy = e.PolicyHash()
	v.Code = refusal.Code
	v.Message = fmt.Sprintf("countersign: refused %s: %s", full(s.name, chosen), s.sentence(&judge.Outcome{Refusal: refusal}))
	v.Steps = s.trace.Steps()
	return e.finish(v, s)
}

func (e *Engine) begin(s subject, c bind.Candidate) *verdict.Verdict {
	return &verdict.Verdict{
		Version: verdict.Version, Time: time.Now().UTC(), Layer: s.layer,
		Image: s.name, Repository: s.repository, Index: c.Index, Manifest: c.Manifest, Config: c.Config,
		Container: s.container, Pod: s.pod, PodUID: s.podUID,
	}
}

func (e *Engine) finish(v *verdict.Verdict, s subject) *verdict.Verdict {
	v.Millis = verdict.Millis(time.Since(s.start))
	v.Fit()
	if !s.silent {
		e.Observer.Verdict(v)
	}
	return v
}

// guard gives work a deadline and turns a panic into a refusal.
func (e *Engine) guard(ctx context.Context, budget time.Duration, s subject, work func(context.Context, subject) *verdict.Verdict) *verdict.Verdict {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	s.start = time.Now()
	return e.safely(s, func() *verdict.Verdict { return work(ctx, s) })
}

// safely turns a panic into a refusal: input that breaks a parser must neither
// open the gate nor take it down for others.
func (e *Engine) safely(s subject, work func() *verdict.Verdict) (v *verdict.Verdict) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("PANIC while judging", "image", s.name, "panic", p, "stack", string(debug.Stack()))
			v = e.refuse(s, code.Refuse(code.GateDown, "the gate failed inside", "a verdict", "look at the gate's log and report a bug"))
		}
	}()
	return work()
}
