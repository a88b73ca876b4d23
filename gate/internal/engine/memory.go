package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/lru"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

const (
	maxRemembered      = 8192
	maxRememberedBytes = 8 << 20
	// unsettled is how long an absence or a failed look-up is remembered.
	unsettled = time.Second
	// settled bounds everything else, so that nothing is held for ever.
	settled = time.Hour

	// fromMemory is the Source of a remembered outcome.
	fromMemory = "memory"
	// unreadable stands for the hash of evidence that could not be read; no settled
	// outcome is ever kept under it.
	unreadable = "unreadable"
)

// memory remembers outcomes and joins equal requests in flight.
type memory struct {
	outcomes *lru.Cache[string, remembered]
	landed   atomic.Uint64 // flights, by which a look-up knows that it is still true
	purging  atomic.Bool

	mu      sync.Mutex
	flights map[string]*flight // by question
}

type remembered struct {
	outcome judge.Outcome
	end     time.Time
}

// flight is one judgement on behalf of everybody who waits for it.
type flight struct {
	done    chan struct{}
	outcome judge.Outcome // once done
	waiting int
	cancel  context.CancelFunc
}

func newMemory() *memory {
	return &memory{
		outcomes: lru.NewSized[string](maxRemembered, maxRememberedBytes, remembered.size),
		flights:  map[string]*flight{},
	}
}

// size is about what an outcome holds, in bytes.
func (r remembered) size() int {
	const fields = 1024
	size := fields
	for _, detail := range r.outcome.Details {
		size += len(detail)
	}
	for _, one := range r.outcome.Attestations {
		size += len(one.Type) + len(one.Root) + len(one.Outcome)
	}
	for _, step := range r.outcome.Steps {
		size += len(step.Name) + len(step.Outcome)
	}
	return size
}

// join lets the caller wait for the flight that answers a question, and begins it if
// there is none. The flight inherits no caller's cancellation, but ends with the last
// of them: nothing is judged for nobody.
func (m *memory) join(question string, budget time.Duration, judge func(context.Context) judge.Outcome) *flight {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f, ok := m.flights[question]; ok {
		f.waiting++
		return f
	}
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	f := &flight{done: make(chan struct{}), waiting: 1, cancel: cancel}
	m.flights[question] = f
	go func() {
		defer cancel()
		f.outcome = judge(ctx)
		m.forget(question, f)
		close(f.done)
	}()
	return f
}

// leave ends the caller's waiting.
func (m *memory) leave(question string, f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.cancel()
		if m.flights[question] == f { // whoever asks next begins anew
			delete(m.flights, question)
		}
	}
}

func (m *memory) forget(question string, f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flights[question] == f {
		delete(m.flights, question)
	}
}

// question identifies a judgement by all that it rests on, but for the evidence.
func question(p *policy.Policy, r judge.Request) string {
	scope, rule, _ := p.Match(r.Repository)
	return strings.Join([]string{r.Repository, scope, rule.String(), r.Index, r.Manifest, r.Config, p.Hash, p.TrustHash}, "|")
}

// look is a question with what memory and the store had for it.
type look struct {
	request  judge.Request // with the evidence of the store
	question string
	hash     string         // of that evidence
	landed   uint64         // flights before
	known    *judge.Outcome // remembered; else nil
}

// look asks memory for a judgement, and the store for what one would rest on.
func (e *Engine) look(p *policy.Policy, r judge.Request) *look {
	l := &look{request: r, question: question(p, r), landed: e.memory.landed.Load()}
	l.hash = e.read(&l.request)
	if known, ok := e.memory.get(l.question, l.hash); ok {
		l.known = &known
	}
	return l
}

// rank orders looks by how soon they may be answered: from memory, from the store, or
// by a registry.
func (l *look) rank() int {
	if l.known != nil {
		return 0
	}
	for _, set := range l.request.Stored {
		if !set.Empty() {
			return 1
		}
	}
	return 2
}

// outcome gives the judgement on one request: from memory, by joining an equal request
// in flight, or by judging. budget bounds the work that is shared; ctx bounds how long
// this caller waits for it.
func (e *Engine) outcome(ctx context.Context, p *policy.Policy, l *look, budget time.Duration) judge.Outcome {
	if l.known != nil {
		return *l.known
	}
	late := func() judge.Outcome {
		return refused(code.Refuse(code.Timeout, fmt.Sprintf("no judgement in time (%v)", context.Cause(ctx)), "evidence on the node, or a registry that answers faster", "try again"))
	}
	if ctx.Err() != nil {
		return late()
	}
	f := e.memory.join(l.question, budget, func(ctx context.Context) judge.Outcome { return e.fly(ctx, p, l) })
	defer e.memory.leave(l.question, f)
	select {
	case <-f.done:
		return f.outcome
	case <-ctx.Done():
		return late()
	}
}

// fly judges on behalf of everybody who waits, and remembers the outcome.
func (e *Engine) fly(ctx context.Context, p *policy.Policy, l *look) (outcome judge.Outcome) {
	r, hash := l.request, l.hash
	defer func() {
		if p := recover(); p != nil {
			slog.Error("PANIC while judging", "repository", r.Repository, "manifest", r.Manifest, "panic", p, "stack", string(debug.Stack()))
			outcome = refused(code.Refuse(code.GateDown, "the gate failed inside", "a judgement", "look at the gate's log and report a bug"))
		}
	}()
	if e.memory.landed.Load() != l.landed {
		// That may have been this very question, with its evidence: look again.
		hash = e.read(&r)
		if known, ok := e.memory.get(l.question, hash); ok {
			return known
		}
	}
	outcome = e.Judge.Judge(ctx, p, r)
	if outcome.Verified {
		e.Observer.Verification()
	}
	if outcome.StoreError != nil {
		slog.Error("EVIDENCE STORE: not read or not written", "repository", r.Repository, "manifest", r.Manifest, "error", outcome.StoreError)
	}
	if outcome.Settled {
		hash = outcome.EvidenceHash // of what it rests on, which judging may have brought
	} else if errors.Is(ctx.Err(), context.Canceled) {
		return outcome // cut short, because nobody waited any more: it says nothing to those who ask next
	}
	e.memory.put(l.question, hash, outcome)
	return outcome
}

func (m *memory) get(question, evidenceHash string) (judge.Outcome, bool) {
	known, ok := m.outcomes.Get(question + "|" + evidenceHash)
	known.outcome.Source = fromMemory
	return known.outcome, ok && time.Now().Before(known.end)
}

func (m *memory) put(question, evidenceHash string, o judge.Outcome) {
	end := time.Now().Add(unsettled)
	if o.Settled {
		end = time.Now().Add(settled)
	}
	if !o.Expires.IsZero() && o.Expires.Before(end) {
		end = o.Expires
	}
	o.Steps = append([]verdict.Step{{Name: "remembered", Outcome: "judged at " + time.Now().UTC().Format(time.TimeOnly) + "; what follows was seen then", OK: o.Allow}}, o.Steps...)
	m.outcomes.Put(question+"|"+evidenceHash, remembered{o, end})
	m.landed.Add(1)
	if !o.Settled && m.purging.CompareAndSwap(false, true) {
		time.AfterFunc(unsettled+unsettled/10, m.purge)
	}
}

// purge gives back what ended outcomes hold. It runs once in a while after one that
// ends soon was remembered: they are the ones that an attacker can make many of.
func (m *memory) purge() {
	m.purging.Store(false)
	now := time.Now()
	m.outcomes.DeleteFunc(func(r remembered) bool { return !now.Before(r.end) })
}

// read gives the request the evidence that the node's store has for it, and
// identifies that. If it can't be read the registry may still have what is needed.
func (e *Engine) read(r *judge.Request) (hash string) {
	sets, hash, err := e.Evidence.Read(r.Repository, r.Index, r.Manifest)
	if err != nil {
		slog.Error("EVIDENCE STORE UNREADABLE", "error", err)
		r.Stored = nil
		return unreadable
	}
	r.Stored = sets
	return hash
}

func refused(refusal *code.Refusal) judge.Outcome {
	return judge.Outcome{Code: refusal.Code, Refusal: refusal}
}
