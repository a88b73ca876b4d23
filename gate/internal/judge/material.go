package judge

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/turns"
)

// seen is what a judgement has read, by ID: each signature is read once.
type seen struct {
	read      map[string]*readBundle
	attached  map[string]*certified
	enveloped map[string]*readEnvelope
	values    int // that a statement may have
}

// material is one set of a trial. Roots ask it for its bundles, of which each is read
// when it is first asked for.
type material struct {
	evidence.Set
	seen
	wanted []string
	kind   string // the predicate type of what is asked for: that of signatures, or an attestation's
	turn   *turns.Turn
	demand *demand // what the rule wants of an attestation beside its signature; nil for nothing
}

// what says what is asked for, in a word.
func (m *material) what() string {
	if m.kind == signPredicate {
		return "signature"
	}
	return "attestation"
}

// bundles yields the bundles of the set in order, until the context ends, and lets other
// judgements go first before each: for an attestation those that may be one of its type,
// for a signature all.
func (m *material) bundles(ctx context.Context) iter.Seq2[int, *readBundle] {
	return func(yield func(int, *readBundle) bool) {
		for i, b := range m.Bundles {
			if m.turn.Yield(ctx) != nil {
				return
			}
			id := b.ID()
			if m.read[id] == nil {
				m.read[id] = parseBundle(b, m.wanted, m.values)
			}
			if stated := m.read[id].statement.predicateType; m.kind != signPredicate && stated != m.kind && stated != "" {
				continue
			}
			if !yield(i, m.read[id]) {
				return
			}
		}
	}
}

// material gives the part of a set that counts for what is demanded.
func (t *trial) material(set evidence.Set, kind string, more *demand) *material {
	if kind != signPredicate || !t.rule.Reads(formatAttachment) {
		set.Attachments = nil
	}
	if kind != signPredicate || !t.rule.Reads(formatNotation) {
		set.Envelopes = nil
	}
	if kind == signPredicate && !t.rule.Reads(formatBundle) {
		set.Bundles = nil
	}
	return &material{Set: set, seen: t.seen, wanted: t.wanted, kind: kind, turn: t.turn, demand: more}
}

// notRead tells of what cannot be a signature: by the format that the rule reads, or by
// its size.
func (t *trial) notRead() []finding {
	var findings []finding
	for _, set := range t.sets {
		if n := len(set.Attachments); n > 0 && !t.rule.Reads(formatAttachment) {
			findings = append(findings, finding{code.Unsigned, fmt.Sprintf("%d attachments, and the rule reads signatures in the format %s only", n, strings.Join(t.rule.Formats, " or "))})
		}
		if n := len(set.Large); n > 0 {
			findings = append(findings, finding{code.Unsigned, fmt.Sprintf("%d bundles of more than %d bytes, which no signature of an image has", n, evidence.MaxInMemory)})
		}
		if n := len(set.Envelopes); n > 0 && !t.rule.Reads(formatNotation) {
			findings = append(findings, finding{code.Unsigned, fmt.Sprintf("%d Notation signatures, and the rule reads signatures in the format %s only", n, strings.Join(t.rule.Formats, " or "))})
		}
		if n := len(set.Bundles); n > 0 && !t.rule.Reads(formatBundle) {
			findings = append(findings, finding{code.Unsigned, fmt.Sprintf("%d bundles, and the rule reads signatures in the format %s only", n, strings.Join(t.rule.Formats, " or "))})
		}
	}
	return findings
}
