package engine

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
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
	// unreadable stands for the hash of evidence that could not be read.
	unreadable = "unreadable"
)

// memory remembers outcomes and joins equal requests in flight.
type memory struct {
	outcomes *lru.Cache[string, remembered]
	flights  singleflight.Group
}

type remembered struct {
	outcome judge.Outcome
	end     time.Time
}

func newMemory() *memory {
	return &memory{outcomes: lru.New[string, remembered](maxRemembered)}
}

// key identifies an outcome by all that it rests on.
func key(p *policy.Policy, r judge.Request, evidenceHash string) string {
	scope, rule, _ := p.Match(r.Repository)
	return strings.Join([]string{r.Repository, scope, rule.String(), r.Index, r.Manifest, r.Config, p.Hash, p.TrustHash, evidenceHash}, "|")
}

// outcome gives the judgement on one request: by the policy alone, from memory, by
// joining an equal request in flight, or by judging. budget bounds the work that
// is shared; ctx bounds only how long this caller waits for it.
func (e *Engine) outcome(ctx context.Context, p *policy.Policy, r judge.Request, budget time.Duration) judge.Outcome {
	if o, ok := judge.ByPolicy(p, r); ok {
		return o
	}
	hash, err := e.hash(r)
	if err != nil {
		// The registry may still have what is needed; nothing is remembered for long.
		slog.Error("EVIDENCE STORE UNREADABLE", "error", err)
		hash = unreadable
	}
	k := key(p, r, hash)
	if known, ok := e.memory.get(k); ok {
		known.Source = fromMemory
		return known
	}
	flight := e.memory.flights.DoChan(k, func() (any, error) { return e.fly(p, r, k, budget), nil })
	select {
	case result := <-flight:
		return result.Val.(judge.Outcome)
	case <-ctx.Done():
		return refused(code.Refuse(code.Timeout, fmt.Sprintf("no judgement in time (%v)", context.Cause(ctx)), "evidence on the node, or a registry that answers faster", "try again"))
	}
}

// fly judges on behalf of everybody who waits, and remembers the outcome. It
// inherits no caller's cancellation.
func (e *Engine) fly(p *policy.Policy, r judge.Request, k string, budget time.Duration) (outcome judge.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("PANIC while judging", "repository", r.Repository, "manifest", r.Manifest, "panic", p, "stack", string(debug.Stack()))
			outcome = refused(code.Refuse(code.GateDown, "the gate failed inside", "a judgement", "look at the gate's log and report a bug"))
		}
	}()
	// A flight that landed between look-up and take-off has left its outcome.
	if known, ok := e.memory.get(k); ok {
		return known
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
		// Judging may have brought evidence into the store: what comes next will
		// ask under its hash.
		k = key(p, r, outcome.EvidenceHash)
	}
	e.memory.put(k, outcome)
	return outcome
}

func (m *memory) get(k string) (judge.Outcome, bool) {
	known, ok := m.outcomes.Get(k)
	return known.outcome, ok && time.Now().Before(known.end)
}

func (m *memory) put(k string, o judge.Outcome) {
	end := time.Now().Add(unsettled)
	if o.Settled {
		end = time.Now().Add(settled)
	}
	if !o.Expires.IsZero() && o.Expires.Before(end) {
		end = o.Expires
	}
	o.Steps = append([]verdict.Step{{Name: "remembered", Outcome: "judged at " + time.Now().UTC().Format(time.TimeOnly) + "; what follows was seen then", OK: o.Allow}}, o.Steps...)
	m.outcomes.Put(k, remembered{o, end})
}

func (e *Engine) hash(r judge.Request) (string, error) {
	var digests []string
	for _, d := range []string{r.Index, r.Manifest} {
		if d != "" {
			digests = append(digests, d)
		}
	}
	return e.Evidence.Hash(r.Repository, digests...)
}

func refused(refusal *code.Refusal) judge.Outcome {
	return judge.Outcome{Code: refusal.Code, Refusal: refusal}
}
