package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
)

// stored reads the evidence that is on the node.
func (j *Judge) stored(r Request, o *Outcome) []evidence.Set {
	var sets []evidence.Set
	for _, digest := range r.signed() {
		set, ok := r.Stored[digest]
		if !ok {
			var err error
			set, err = j.evidence.Stored(r.Repository, digest)
			o.StoreError = errors.Join(o.StoreError, err)
		}
		if raw, ok := r.Raw[digest]; ok && set.Manifest == nil {
			set = set.WithManifest(raw)
		}
		sets = append(sets, set)
	}
	return sets
}

// search asks the registry for what satisfies the rule, and gives what the registry has
// added to each set. A failure is among the problems of the set that it concerns.
func (j *Judge) search(ctx context.Context, t *trial, o *Outcome) (fetched []evidence.Set, met []satisfied) {
	had := t.sets
	add := func(found []evidence.Set) {
		t.sets = make([]evidence.Set, len(had))
		for i := range had {
			// What the registry has now comes first, so that the store keeps it
			// where an entry is full.
			t.sets[i] = found[i].Merge(had[i])
		}
	}
	fetched, errs := j.evidence.Registry.Search(ctx, evidence.Search{
		Sets: had, Types: t.rule.Types(), Tagged: t.tagged(), Referred: t.referred(), Like: o.Scope + " " + o.Rule,
		Enough: func(found []evidence.Set) bool {
			add(found)
			met = j.try(ctx, t, o)
			return met != nil
		},
	})
	for i, err := range errs {
		var refusal *code.Refusal
		switch {
		case errors.As(err, &refusal):
			fetched[i].Problems = append(fetched[i].Problems, refusal)
		case err != nil:
			fetched[i].Problems = append(fetched[i].Problems, code.Refuse(code.RegistryError, err.Error(), "", ""))
		}
	}
	add(fetched)
	return fetched, met
}

// tagged says whether what satisfies the rule can lie under cosign's tags: an attachment,
// or what cosign 2 has attested.
func (t *trial) tagged() bool {
	if len(t.rule.Types()) > 0 {
		return true
	}
	return t.rule.Reads(formatAttachment) && t.rooted(func(r policy.Root) bool { return r.Notation == nil })
}

// referred says whether what satisfies the rule can lie among referrers, beside an
// attachment that does.
func (t *trial) referred() bool {
	return len(t.rule.Types()) > 0 || t.rule.Reads(formatBundle) || t.rooted(func(r policy.Root) bool { return r.Notation != nil })
}

// rooted says whether one of the rule's roots is like that.
func (t *trial) rooted(like func(policy.Root) bool) bool {
	return slices.ContainsFunc(t.policy.Roots(), func(r policy.Root) bool { return slices.Contains(t.rule.Roots, r.Name) && like(r) })
}

// keep puts into the store what the registry has added. What satisfied the rule
// is marked as proven.
func (j *Judge) keep(sets, fetched []evidence.Set, met []satisfied) {
	for i, set := range sets {
		if fetched[i].Empty() {
			continue
		}
		proven := slices.ContainsFunc(met, func(m satisfied) bool { return m.digest == set.Digest })
		j.evidence.Keep(set, proven)
	}
}

// markProven lets the store know what has satisfied a rule.
func (j *Judge) markProven(sets []evidence.Set, met []satisfied, o *Outcome) {
	for _, set := range sets {
		if slices.ContainsFunc(met, func(m satisfied) bool { return m.digest == set.Digest }) {
			o.StoreError = errors.Join(o.StoreError, j.evidence.Store.MarkProven(set))
		}
	}
}

// count describes sets for a step.
func count(sets []evidence.Set) string {
	attachments, bundles, envelopes, problems := 0, 0, 0, 0
	for _, set := range sets {
		attachments += len(set.Attachments)
		bundles += len(set.Bundles)
		envelopes += len(set.Envelopes)
		problems += len(set.Problems)
	}
	text := fmt.Sprintf("%d attachments, %d bundles", attachments, bundles)
	if envelopes > 0 {
		text += fmt.Sprintf(", %d envelopes", envelopes)
	}
	if problems > 0 {
		text += fmt.Sprintf(", %d problems", problems)
	}
	return text
}

func appendWord(list, word string) string {
	if list == "" {
		return word
	}
	if slices.Contains(strings.Split(list, ","), word) {
		return list
	}
	return list + "," + word
}
