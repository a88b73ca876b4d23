package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/condition"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

// demand is what a rule wants of an attestation beside its type and its signature.
type demand struct {
	policy.Attestation
	repository string
	values     int // that its content may have
}

// further says what is wrong with a statement whose signature is good, made at those
// trusted times, or until when it is as the rule asks (zero: no end).
func (a *demand) further(ctx context.Context, set evidence.Set, payload []byte, times []time.Time) (end time.Time, problem *finding) {
	if a.MaxAge > 0 {
		if len(times) == 0 {
			return end, &finding{code.NoTrustedTime, fmt.Sprintf("no trusted time says how old it is, and it may be %s old at most", a.MaxAge)}
		}
		made := slices.MinFunc(times, time.Time.Compare)
		if end = made.Add(a.MaxAge); now().After(end) {
			return end, &finding{code.NoAttestation, fmt.Sprintf("too old: it was made at %s, and may be %s old at most", stamp(made), a.MaxAge)}
		}
	}
	if a.Condition() == nil {
		return end, nil
	}
	in, err := a.input(set, payload)
	if err != nil {
		return end, &finding{code.NoAttestation, "its content cannot be read: " + err.Error()}
	}
	if err := a.Condition().Holds(ctx, in); err != nil {
		return end, &finding{code.NoAttestation, fmt.Sprintf("%v: %.400s", err, a.Where)}
	}
	return end, nil
}

// input reads a statement for a condition, strictly: what two readers could take for two
// things is refused.
func (a *demand) input(set evidence.Set, payload []byte) (condition.Input, error) {
	in := condition.Input{PredicateType: a.Type, Repository: a.repository, Digest: set.Digest}
	decoded, err := condition.Decode(payload, a.values)
	if err != nil {
		return in, err
	}
	statement, ok := decoded.(map[string]any)
	if in.Predicate = statement["predicate"]; !ok || in.Predicate == nil {
		return in, errors.New("it has no predicate")
	}
	list, _ := statement["subject"].([]any)
	for _, one := range list {
		if subject, ok := one.(map[string]any); ok {
			in.Subject = append(in.Subject, subject)
		}
	}
	return in, nil
}

// further asks a bundle that a key has signed what the rule asks beside that: a key's
// signature has no time that anybody vouches for.
func (b *readBundle) further(ctx context.Context, set *material) (time.Time, *finding) {
	if set.demand == nil {
		return time.Time{}, nil
	}
	return set.demand.further(ctx, set.Set, b.bundle.GetDsseEnvelope().GetPayload(), nil)
}

// attestations gives those that the rule asks for, if each of them is there.
func (t *trial) attestations(ctx context.Context, o *Outcome) (met []satisfied, ok bool) {
	o.Attestations = nil
	ok = true
	for _, a := range t.rule.Attestations {
		m, found := t.attested(ctx, a, o)
		entry := verdict.Attestation{Type: a.Type, OK: found, Outcome: "not found"}
		if found {
			m.attestation = a.Type
			met = append(met, m)
			entry.Root, entry.Digest, entry.Outcome = m.root, m.digest, "found"
			if !m.expires.IsZero() {
				entry.Expires = &m.expires
			}
		}
		ok = ok && found
		o.Attestations = append(o.Attestations, entry)
	}
	return met, ok
}

// tellAttestations makes a step of each attestation that was looked for.
func (o *Outcome) tellAttestations() {
	for _, a := range o.Attestations {
		outcome := a.Outcome
		if a.OK {
			outcome += ", by " + a.Root
		}
		o.step("attestation "+a.Type, outcome, a.OK)
	}
}

func (t *trial) attested(ctx context.Context, a policy.Attestation, o *Outcome) (satisfied, bool) {
	more := &demand{a, t.sets[0].Repository, t.seen.values}
	for _, name := range a.By {
		if m, ok := t.try(ctx, t.known[name], a.Type, more, o); ok {
			return m, true
		}
	}
	return t.attestedLarge(ctx, a, o)
}

// refuseAttestations diagnoses which attestations are missing, and why. Findings has
// what is known of the look-up.
func (t *trial) refuseAttestations(ctx context.Context, o *Outcome, findings []finding) {
	if _, ok := t.attestations(ctx, o); ok {
		return // in time after all: the caller's deadline has ended
	}
	var first *policy.Attestation
	var furthest finding
	var all []finding
	for i, a := range t.rule.Attestations {
		if o.Attestations[i].OK {
			continue
		}
		found := append(slices.Clone(findings), t.diagnoseAttestation(ctx, a)...)
		worst := slices.MaxFunc(found, func(a, b finding) int { return progress[a.code] - progress[b.code] })
		for i := range found {
			if found[i].code == code.Unsigned {
				found[i] = finding{code.NoAttestation, a.Type + ": " + found[i].text}
			}
		}
		o.Attestations[i].Outcome = bounded.Text(worst.text, maxFinding)
		all = append(all, found...)
		if first == nil {
			first, furthest = &t.rule.Attestations[i], worst
		}
	}
	o.Details = details(all)
	text := fmt.Sprintf("no attestation of type %s as %s asks for: %s", first.Type, o.Scope, furthest.text)
	o.refuse(attestationCode(furthest.code), bounded.Text(text, maxFinding), first.String())
}

// attestationCode gives the code of a refusal for want of an attestation: that nobody
// could be asked and that nothing proves the time are told apart, all else is in the
// details.
func attestationCode(found code.Code) code.Code {
	switch found {
	case code.NoEvidenceOffline, code.RegistryAuth, code.RegistryError, code.NoTrustedTime:
		return found
	}
	return code.NoAttestation
}

func (t *trial) diagnoseAttestation(ctx context.Context, a policy.Attestation) []finding {
	more := &demand{a, t.sets[0].Repository, t.seen.values}
	var findings []finding
	for _, name := range a.By {
		for _, set := range t.sets {
			findings = append(findings, t.known[name].diagnose(ctx, t.material(set, a.Type, more))...)
		}
	}
	findings = append(findings, t.diagnoseLarge(ctx, a)...)
	if len(findings) > 0 {
		return findings
	}
	text := "there is none"
	if others := t.others(); len(others) > 0 {
		text += ", only of " + strings.Join(others, ", ")
	}
	return []finding{{code.Unsigned, text}}
}

// others lists the predicate types of what is there beside signatures.
func (t *trial) others() []string {
	const shown = 4
	var types []string
	for _, b := range t.seen.read {
		if b.statement.predicateType != "" && b.statement.predicateType != signPredicate {
			types = append(types, fmt.Sprintf("%.200s", b.statement.predicateType))
		}
	}
	for _, found := range t.large {
		types = append(types, fmt.Sprintf("%.200s", found.Type))
	}
	slices.Sort(types)
	types = slices.Compact(types)
	return types[:min(len(types), shown)]
}
