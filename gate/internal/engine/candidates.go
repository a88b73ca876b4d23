package engine

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
)

// maxAtOnce bounds how many candidates of one image are judged at once.
const maxAtOnce = 8

// best gives the outcome that decides on a subject, and the candidate that it is of.
// One whose digest is revoked refuses, whatever the others are; else one that is
// allowed is enough, because all of them are the very same content; else the first
// tells why not.
func (e *Engine) best(ctx context.Context, p *policy.Policy, s subject) (*judge.Outcome, bind.Candidate) {
	if digest, ok := p.RevokedDigest(s.beside...); ok {
		revoked := bind.Candidate{Manifest: digest, Config: s.candidates[0].Config}
		outcome, _ := judge.ByPolicy(p, s.request(revoked))
		return &outcome, revoked
	}
	var open []int // those that the policy alone does not decide
	decided := make([]*judge.Outcome, len(s.candidates))
	for i, candidate := range s.candidates {
		outcome, ok := judge.ByPolicy(p, s.request(candidate))
		switch {
		case !ok:
			open = append(open, i)
			continue
		case revokedDigest(&outcome):
			return &outcome, candidate
		}
		decided[i] = &outcome
	}
	for i, outcome := range decided {
		if outcome != nil && outcome.Allow {
			return outcome, s.candidates[i]
		}
	}
	if allowed := e.judgeAll(ctx, p, s, open, decided); allowed >= 0 {
		return decided[allowed], s.candidates[allowed]
	}
	return decided[0], s.candidates[0]
}

// distinct leaves out the further names of a container's own image about which the
// policy alone says the same as about an earlier one. On CRI-O whoever may pull adds to
// the names of an image: with them no more has to be judged than there are scopes, and
// repositories whose signatures count.
func distinct(p *policy.Policy, images []bind.Image) []bind.Image {
	if p == nil {
		return images
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(images), func(i bind.Image) bool {
		scope, rule, ok := p.Match(i.Repository)
		if i.Volume != "" || i.Repository == "" || (ok && rule.Kind != policy.Accept && rule.Kind != policy.Reject) {
			return false
		}
		again := seen[scope]
		seen[scope] = true
		return again
	})
}

func (s subject) request(c bind.Candidate) judge.Request {
	return judge.Request{Repository: s.repository, Index: c.Index, Manifest: c.Manifest, Config: c.Config, Raw: s.raw}
}

// revokedDigest tells a revoked digest from a signature by a revoked key, which
// hides no good one.
func revokedDigest(o *judge.Outcome) bool {
	return o.Code == code.Revoked && o.Source == judge.FromPolicy
}

// judgeAll judges the open candidates side by side, those first for which the node has
// evidence: a registry that is silent about one must not keep another waiting. It fills
// in their outcomes, and returns the first that is allowed as soon as there is one, when
// the others are given up; else -1 when all are judged.
func (e *Engine) judgeAll(ctx context.Context, p *policy.Policy, s subject, open []int, decided []*judge.Outcome) int {
	looks := make(map[int]*look, len(open))
	for _, i := range open {
		looks[i] = e.look(p, s.request(s.candidates[i]))
	}
	order := slices.Clone(open)
	slices.SortStableFunc(order, func(a, b int) int { return looks[a].rank() - looks[b].rank() })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(maxAtOnce)
	allowed := -1
	for _, i := range order {
		group.Go(func() error {
			outcome := e.outcome(ctx, p, looks[i], e.budget(s.layer)) // TIMEOUT once the context has ended
			mu.Lock()
			defer mu.Unlock()
			decided[i] = &outcome
			if outcome.Allow && allowed < 0 {
				allowed = i
				cancel()
			}
			return nil
		})
	}
	_ = group.Wait() // no candidate fails: what goes wrong is an outcome
	return allowed
}
