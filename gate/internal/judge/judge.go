// Package judge decides step 5 of a verdict: revocations, pins, the rule of the
// scope, and signatures. That what is judged is what runs was settled before
// (package bind).
package judge

import (
	"context"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
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
}

// Outcome is what became of a request.
type Outcome struct {
	Allow   bool
	Code    code.Code
	Refusal *code.Refusal // the parts of the sentence; nil when allowed

	Scope   string   // that matched
	Rule    string   // as policy.Rule.String
	Root    string   // satisfied, comma-separated
	Format  string   // of the signatures that satisfied, comma-separated
	Details []string // one line for each thing that was looked at and failed
	Steps   []verdict.Step

	Source       string    // policy, store or registry
	EvidenceHash string    // as evidence.Store.Hash; "" where no evidence was needed
	Expires      time.Time // zero: no end
	Verified     bool      // a signature was really verified
	Settled      bool      // false: rests on an absence or a failed look-up; remember it for a second at most
}

// Judge holds what judging needs. It keeps no state of its own.
type Judge struct {
	evidence evidence.Collector
}

// New makes a judge.
func New(collector evidence.Collector) *Judge { return &Judge{collector} }

// NeedsEvidence says whether the outcome will rest on signatures, so that a
// caller who remembers outcomes must look up the hash of the evidence first.
func NeedsEvidence(p *policy.Policy, r Request) bool { return true }

// Judge decides. It never fails: what went wrong is a refusal.
func (j *Judge) Judge(ctx context.Context, p *policy.Policy, r Request) Outcome {
	return Outcome{}
}
