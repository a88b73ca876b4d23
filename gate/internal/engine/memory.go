package engine

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/lru"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

const (
	maxRemembered = 8192
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
	flights  singleflight.Group
	landed   atomic.Uint64 // flights, by which a look-up knows that it is still true
}

type remembered struct {
	outcome judge.Outcome
	end     time.Time
}

func newMemory() *memory {
	return &memory{outcomes: lru.New[string, remembered](maxRemembered)}
}

// question identifies a judgement by all that it rests on, but for the evidence.
func question(p *policy.Policy, r judge.Request) string {
	scope, rule, _ := p.Match(r.Repository)
	return strings.Join([]string{r.Repository, scope, rule.String(), r.Index, r.Manifest, r.Config, p.Hash, p.TrustHash}, "|")
}

// outcome gives the judgement on one request: by the policy alone, from memory, by
// joining an equal request in flight, or by judging. budget bounds the work that
// is shared; ctx bounds only how long this caller waits for it.
func (e *Engine) outcome(ctx context.Context, p *policy.Policy, r judge.Request, budget time.Duration) judge.Outcome {
	if o, ok := judge.ByPolicy(p, r); ok {
		return o
	}
	q, landed := question(p, r), e.memory.landed.Load()
	hash := e.read(&r)
	if known, ok := e.memory.get(q, hash); ok {
		return known
	}
	flight := e.memory.flights.DoChan(q, func() (any, error) {
		return e.fly(p, r, look{q, hash, landed}, budget), nil
	})
	select {
	case result := <-flight:
		return result.Val.(judge.Outcome)
	case <-ctx.Done():
		return refused(code.Refuse(code.Timeout, fmt.Sprintf("no judgement in time (%v)", context.Cause(ctx)), "evidence on the node, or a registry that answers faster", "try again"))
	}
}

// look is a look-up in memory that found nothing: the question, the evidence that
// there was, and how many flights had landed before.
type look struct {
	question string
	hash     string
	landed   uint64
}

// fly judges on behalf of everybody who waits, and remembers the outcome. It
// inherits no caller's cancellation.
func (e *Engine) fly(p *policy.Policy, r judge.Request, l look, budget time.Duration) (outcome judge.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("PANIC while judging", "repository", r.Repository, "manifest", r.Manifest, "panic", p, "stack", string(debug.Stack()))
			outcome = refused(code.Refuse(code.GateDown, "the gate failed inside", "a judgement", "look at the gate's log and report a bug"))
		}
	}()
	if e.memory.landed.Load() != l.landed {
		// That may have been this very question, with its evidence: look again.
		l.hash = e.read(&r)
		if known, ok := e.memory.get(l.question, l.hash); ok {
			return known
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	outcome = e.Judge.Judge(ctx, p, r)
	if outcome.Verified {
		e.Observer.Verification()
	}
	if outcome.StoreError != nil {
		slog.Error("EVIDENCE STORE: not read or not written", "repository", r.Repository, "manifest", r.Manifest, "error", outcome.StoreError)
	}
	if outcome.Settled {
		l.hash = outcome.EvidenceHash // of what it rests on, which judging may have brought
	}
	e.memory.put(l.question, l.hash, outcome)
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
