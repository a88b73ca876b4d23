// Package judge decides step 5 of a verdict: revocations, pins, the rule of the
// scope, and signatures. That what is judged is what runs was settled before
// (package bind).
//
// Signatures are decided by the field's own libraries alone: attachments by
// go.podman.io/image, bundles by sigstore-go. Only when they have refused does
// a diagnosis look closer, to say why; it cannot allow anything.
package judge

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/turns"
	"countersign/gate/internal/verdict"

	"golang.org/x/sync/semaphore"
)

// Request names what is to be judged.
type Request struct {
	Repository string // normalised; "" for names without a scope
	Index      string // digests, sha256:<hex>; Index is "" where there is none
	Manifest   string
	Config     string

	// Raw has manifests that the caller has read already, by digest. They are
	// checked, and save a question to the registry. May be nil.
	Raw map[string][]byte

	// Stored is the evidence that the caller has just read from the node's store, by
	// digest. What is not in it is read. May be nil.
	Stored map[string]evidence.Set
}

// digests lists what pins and revocations match on.
func (r Request) digests() []string {
	var digests []string
	for _, digest := range []string{r.Index, r.Manifest, r.Config} {
		if digest != "" {
			digests = append(digests, digest)
		}
	}
	return digests
}

// signed lists the digests on which a signature counts.
func (r Request) signed() []string {
	switch {
	case r.Manifest == "":
		return []string{r.Index}
	case r.Index == "" || r.Index == r.Manifest:
		return []string{r.Manifest}
	}
	return []string{r.Manifest, r.Index}
}

// Outcome is what became of a request.
type Outcome struct {
	Allow   bool
	Code    code.Code
	Refusal *code.Refusal // the parts of the sentence; nil when allowed

	Scope   string   // that matched
	Rule    string   // as policy.Rule.String; "" where none matched or none was needed
	Root    string   // satisfied, comma-separated
	Format  string   // of the signatures that satisfied, comma-separated
	Details []string // one line for each thing that was looked at and failed
	Steps   []verdict.Step

	Attestations []verdict.Attestation // what the rule asks for, and what came of it

	Source       string    // policy, store or registry
	EvidenceHash string    // as evidence.Store.Hash; "" where no evidence was needed
	Expires      time.Time // zero: no end
	Verified     bool      // signatures were really verified, and not only looked for
	Settled      bool      // false: rests on what was not there; remember it for a second at most
	StoreError   error     // the store could not be read; what cannot be written, it logs itself
}

// FromPolicy is the Source of an outcome that needed no evidence.
const FromPolicy = "policy"

// maxJudged bounds what all judgements together decode at once, in bytes. Who finds no
// room waits, within the deadline of the verdict.
const maxJudged = 12 << 20

// Judge holds what judging needs.
type Judge struct {
	evidence evidence.Collector
	room     *semaphore.Weighted // of maxJudged
	lanes    lanes
	ready    atomic.Pointer[verifiers]
	isolated *isolated // judges large attestations
}

// lanes are whose turns judgements wait for: what rests on what is on the node does not
// wait for what registries have answered.
type lanes struct{ store, registry turns.Lane }

// New makes a judge.
func New(collector evidence.Collector) *Judge {
	return &Judge{evidence: collector, room: semaphore.NewWeighted(maxJudged), isolated: newIsolated(collector.Store),
		lanes: lanes{turns.NewLane(), turns.NewLane()}}
}

// Offline gives a judge that asks no registry: what the node's store has is all the
// evidence there is. It shares the room of this one.
func (j *Judge) Offline() *Judge {
	return &Judge{evidence: evidence.Collector{Store: j.evidence.Store}, room: j.room, lanes: j.lanes, isolated: j.isolated}
}

// Judge decides. It never fails: what went wrong is a refusal.
func (j *Judge) Judge(ctx context.Context, p *policy.Policy, r Request) Outcome {
	o, rule, decided := byPolicy(p, r)
	if decided {
		return o
	}
	j.bySignatures(ctx, p, rule, r, &o)
	return o
}

// ByPolicy decides what the policy alone decides. Where that is not enough, ok
// is false and the outcome has only Scope, Rule and Steps: it rests on evidence.
func ByPolicy(p *policy.Policy, r Request) (o Outcome, ok bool) {
	o, _, ok = byPolicy(p, r)
	return o, ok
}

// byPolicy goes through revocations, pins and scopes, in this order.
func byPolicy(p *policy.Policy, r Request) (o Outcome, rule policy.Rule, decided bool) {
	o.Source, o.Settled = FromPolicy, true
	if digest, ok := p.RevokedDigest(r.digests()...); ok {
		o.step("revocations", digest+" is revoked", false)
		return o.refuse(code.Revoked, digest+" is revoked", "an image that is not revoked"), rule, true
	}
	o.step("revocations", "none", true)
	if pin, ok := p.Pinned(r.digests()...); ok {
		o.step("pins", pin, true)
		return o.allow(code.PinnedDigest), rule, true
	}
	o.step("pins", "none", true)
	if r.Repository == "" {
		o.step("scope", "a name in ID or digest form has none", false)
		o.refuse(code.NoScope, "the image is named by ID or digest alone, so no scope matches", "a full name, or a pinned digest")
		o.Refusal.Do = "name the image in full (registry/path:tag), or pin its digest in the policy"
		return o, rule, true
	}
	scope, rule, ok := p.Match(r.Repository)
	if !ok {
		o.step("scope", "none matches "+r.Repository, false)
		return o.refuse(code.NoScope, "no scope matches "+r.Repository, "a scope of the policy, or a pinned digest"), rule, true
	}
	o.Scope, o.Rule = scope, rule.String()
	o.step("scope", scope+": "+o.Rule, rule.Kind != policy.Reject)
	switch rule.Kind {
	case policy.Accept:
		return o.allow(code.AcceptedByScope), rule, true
	case policy.Reject:
		return o.refuse(code.RejectedByScope, "scope "+scope+" is rejected", "a scope that allows it"), rule, true
	}
	return o, rule, false
}

func (o *Outcome) allow(c code.Code) Outcome {
	o.Allow, o.Code = true, c
	return *o
}

func (o *Outcome) refuse(c code.Code, found, expected string) Outcome {
	o.Allow, o.Code = false, c
	o.Refusal = code.Refuse(c, found, expected, advice[c])
	return *o
}

func (o *Outcome) step(name, outcome string, ok bool) {
	o.Steps = append(o.Steps, verdict.Step{Name: name, Outcome: outcome, OK: ok})
}

// since gives a step the time that it took.
func (o *Outcome) timed(start time.Time, name, outcome string, ok bool) {
	o.step(name, outcome, ok)
	o.Steps[len(o.Steps)-1].Millis = float64(time.Since(start).Microseconds()) / 1000
}

// expected says what evidence a rule asks for.
func expected(r Request, rule policy.Rule) string {
	what := fmt.Sprintf("a signature of %s that satisfies %s", r.Repository, strings.Join(rule.Roots, " or "))
	if rule.Kind == policy.AllOf {
		what = fmt.Sprintf("signatures of %s that satisfy %s", r.Repository, strings.Join(rule.Roots, " and "))
	}
	return what
}
