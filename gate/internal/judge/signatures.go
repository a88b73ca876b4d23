package judge

import (
	"context"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/turns"
)

// trial is one request on its way through a rule.
type trial struct {
	rule   policy.Rule
	known  map[string]verifier // of all roots of the policy
	sets   []evidence.Set      // one for each signed digest
	seen   seen
	wanted []string // predicate types that are read

	lane     turns.Lane  // whose turns it waits for
	turn     *turns.Turn // nil in the child
	policy   *policy.Policy
	isolated *isolated          // for large attestations; nil in its child
	large    map[string]*stated // what it has found, by digest and sum
}

// share waits until what the sets of a trial hold fits beside what other judgements hold,
// decoded and copied a few times, and then for its turn. Its return value gives both back.
func (j *Judge) share(ctx context.Context, t *trial) (release func(), err error) {
	const copies = 3
	bytes := int64(0)
	for _, set := range t.sets {
		for _, b := range set.Bundles {
			bytes += int64(len(b.JSON))
		}
		for _, a := range set.Attachments {
			bytes += int64(len(a.Payload))
		}
		for _, e := range set.Envelopes {
			bytes += envelopeWeight * int64(len(e.Raw))
		}
	}
	weight := min(bytes*copies, maxJudged)
	if err := j.room.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	if t.turn, err = t.lane.Take(ctx); err != nil {
		j.room.Release(weight)
		return nil, err
	}
	return func() {
		t.turn.Give()
		j.room.Release(weight)
	}, nil
}

// bySignatures fills in the outcome of a rule that asks for signatures: from the
// store if it can, and else from the registry too.
func (j *Judge) bySignatures(ctx context.Context, p *policy.Policy, rule policy.Rule, r Request, o *Outcome) {
	t := trial{
		rule:     rule,
		seen:     seen{map[string]*readBundle{}, map[string]*certified{}, map[string]*readEnvelope{}, maxStated},
		wanted:   append([]string{signPredicate}, rule.Types()...),
		lane:     j.lanes.store,
		policy:   p,
		isolated: j.isolated,
		large:    map[string]*stated{},
	}
	var err error
	t.known, err = j.verifiers(p)
	if err != nil {
		o.refuse(code.PolicyInvalid, err.Error(), "a root that this gate knows")
		return
	}
	start := time.Now()
	t.sets = j.stored(r, o)
	o.Source = string(evidence.FromStore)
	met := j.try(ctx, &t, o)
	o.timed(start, "evidence in the store", count(t.sets), met != nil)
	if met == nil && j.evidence.Registry != nil {
		start = time.Now()
		o.Source, t.lane = string(evidence.FromRegistry), j.lanes.registry
		var fetched []evidence.Set
		fetched, met = j.search(ctx, &t, o)
		o.timed(start, "evidence in the registry", count(fetched), met != nil)
		j.keep(t.sets, fetched, met)
	}
	o.EvidenceHash = evidence.HashOf(t.sets...)
	o.Settled = met != nil
	if met == nil {
		j.refuse(ctx, &t, r, o)
	}
	o.tellAttestations()
	if met == nil {
		return
	}
	if o.Source == string(evidence.FromStore) {
		j.markProven(t.sets, met, o)
	}
	o.allow(code.OK)
	for _, m := range met {
		if m.attestation == "" {
			o.Root = appendWord(o.Root, m.root)
			o.Format = appendWord(o.Format, m.format)
		}
		if !m.expires.IsZero() && (o.Expires.IsZero() || m.expires.Before(o.Expires)) {
			o.Expires = m.expires
		}
	}
}

// try gives what satisfies the rule, or nil, as soon as there is room to look.
func (j *Judge) try(ctx context.Context, t *trial, o *Outcome) []satisfied {
	release, err := j.share(ctx, t)
	if err != nil {
		return nil
	}
	defer release()
	return t.run(ctx, o)
}

// refuse says why the rule is not satisfied: what is wrong with the evidence, or that
// there was no time to look.
func (j *Judge) refuse(ctx context.Context, t *trial, r Request, o *Outcome) {
	release, err := j.share(ctx, t)
	if err == nil {
		t.refuse(ctx, r, o, j.evidence.Registry == nil)
		release()
	}
	if ctx.Err() != nil {
		o.refuse(code.Timeout, "judging was not done in time: "+count(t.sets), expected(r, t.rule))
	}
}

// run gives what satisfies the rule, or nil: signatures, and then attestations.
func (t *trial) run(ctx context.Context, o *Outcome) []satisfied {
	met := t.signatures(ctx, o)
	if met == nil {
		return nil
	}
	attested, ok := t.attestations(ctx, o)
	if !ok {
		return nil
	}
	return append(met, attested...)
}

// signatures gives the signatures that satisfy the rule's roots, or nil.
func (t *trial) signatures(ctx context.Context, o *Outcome) []satisfied {
	var met []satisfied
	for _, name := range t.rule.Roots {
		m, ok := t.signature(ctx, t.known[name], o)
		switch {
		case ok && t.rule.Kind == policy.AnyOf:
			return []satisfied{m}
		case ok:
			met = append(met, m)
		case t.rule.Kind == policy.AllOf:
			return nil
		}
	}
	if t.rule.Kind != policy.AllOf || len(met) != len(t.rule.Roots) || len(met) == 0 {
		return nil
	}
	return met
}

// signature looks for one that satisfies the root: a signature, or an attestation where
// the rule says that it may stand for one.
func (t *trial) signature(ctx context.Context, root verifier, o *Outcome) (satisfied, bool) {
	m, ok := t.try(ctx, root, signPredicate, nil, o)
	if !ok && t.rule.Signature != "" {
		m, ok = t.try(ctx, root, t.rule.Signature, nil, o)
	}
	return m, ok
}

func (t *trial) try(ctx context.Context, root verifier, kind string, more *demand, o *Outcome) (satisfied, bool) {
	for _, set := range t.sets {
		material := t.material(set, kind, more)
		if material.Empty() {
			continue
		}
		o.Verified = true
		if m, ok := root.verify(ctx, material); ok {
			m.digest = set.Digest
			return m, true
		}
	}
	return satisfied{}, false
}

// refuse diagnoses why the rule is not satisfied. Where no registry was asked, that
// nothing is on the node says nothing of the image.
func (t *trial) refuse(ctx context.Context, r Request, o *Outcome, offline bool) {
	var findings []finding
	if offline {
		findings = []finding{{code.NoEvidenceOffline, "the evidence on the node does not satisfy the rule, and no registry was asked"}}
	}
	for _, set := range t.sets {
		for _, problem := range set.Problems {
			findings = append(findings, finding{problem.Code, problem.Found})
		}
	}
	if t.signatures(ctx, o) != nil {
		t.refuseAttestations(ctx, o, findings)
		return
	}
	findings = slices.DeleteFunc(findings, func(f finding) bool { return f.code == code.NoAttestation })
	for _, name := range t.rule.Roots {
		root := t.known[name]
		if t.rule.Kind == policy.AllOf {
			if _, ok := t.signature(ctx, root, o); ok {
				continue // nothing to explain
			}
		}
		for _, set := range t.sets {
			findings = append(findings, root.diagnose(ctx, t.material(set, signPredicate, nil))...)
			if t.rule.Signature != "" {
				findings = append(findings, root.diagnose(ctx, t.material(set, t.rule.Signature, nil))...)
			}
		}
	}
	findings = append(findings, t.notRead()...)
	if len(findings) == 0 {
		findings = []finding{{code.Unsigned, "no signature for " + strings.Join(r.signed(), " or ")}}
	}
	furthest := slices.MaxFunc(findings, func(a, b finding) int { return progress[a.code] - progress[b.code] })
	o.Details = details(findings)
	o.refuse(furthest.code, bounded.Text(furthest.text, maxFinding), expected(r, t.rule))
}
