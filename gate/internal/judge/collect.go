package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
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

// fetch asks the registry for the evidence of all sets at once. A failure is
// among the problems of the set that it concerns.
func (j *Judge) fetch(ctx context.Context, sets []evidence.Set, types []string) []evidence.Set {
	fetched := make([]evidence.Set, len(sets))
	var wait sync.WaitGroup
	for i, set := range sets {
		wait.Go(func() {
			var err error
			fetched[i], err = j.evidence.Registry.Fetch(ctx, set.Repository, set.Digest, set.Manifest, types...)
			var refusal *code.Refusal
			switch {
			case errors.As(err, &refusal):
				fetched[i].Problems = append(fetched[i].Problems, refusal)
			case err != nil:
				fetched[i].Problems = append(fetched[i].Problems, code.Refuse(code.RegistryError, err.Error(), "", ""))
			}
		})
	}
	wait.Wait()
	return fetched
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
