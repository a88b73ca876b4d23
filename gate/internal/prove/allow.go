package prove

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"countersign/gate/internal/policy"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
)

const (
	// pulls bounds a pull from a registry that may be far away, or not there.
	pulls = 60 * time.Second
	// candidates of each kind are tried, of those that are there.
	candidates = 2
)

// candidate is an image that the policy allows, as far as its name can tell.
type candidate struct {
	name   string // by digest, or as a user named it
	id     string
	rule   string
	pulled bool // from its registry; what is merely there may have come from anywhere
	sure   bool // the policy allows it without a look at signatures
}

// allow tries whether an image that the policy allows gets through: the named one, or
// one that is there. It is started with the node's own program in place of the image's.
func (p *proof) allow(ctx context.Context, handlers []string) error {
	rules, err := p.Gate.PolicyFile().Read()
	if err != nil {
		return err
	}
	if p.Image != "" {
		return p.allowNamed(ctx, rules, handlers)
	}
	images, err := p.runtime.list(ctx)
	if err != nil {
		return err
	}
	why := "no image is there that the policy allows; name one with --image"
	for _, one := range among(images, rules) {
		failed := p.allowOne(ctx, one, handlers)
		if failed == nil {
			p.receipt.Proven.Allow = true
			return nil
		}
		if _, _, ours := refusal(failed); ours && one.sure {
			p.problem("start of "+one.name, found(failed), "allowed, for the policy has it as "+one.rule)
			return ctx.Err()
		}
		why = one.name + ": " + failed.Error()
	}
	p.note(NotAllowed + ": " + why)
	return ctx.Err()
}

// allowNamed pulls the image that a user named, tries it, and removes it if it was not
// there before.
func (p *proof) allowNamed(ctx context.Context, rules *policy.Policy, handlers []string) error {
	before, err := p.runtime.find(ctx, p.Image)
	if err != nil {
		return err
	}
	one := candidate{name: p.Image, rule: "as named", pulled: true}
	if name, err := reference.Normalise(p.Image); err == nil {
		if _, rule, ok := rules.Match(name.Repository); ok {
			one.rule = rule.String()
		}
		if pin, ok := rules.Pinned(name.Digest); ok {
			one.rule = "pinned " + pin
		}
	}
	failed := p.allowOne(ctx, one, handlers)
	if failed != nil {
		p.problem("pull and start of "+p.Image, found(failed), "allowed")
		p.note(NotAllowed + ": " + p.Image + " was refused")
	}
	p.receipt.Proven.Allow = failed == nil
	if before == "" {
		if err := p.forgetNamed(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (p *proof) forgetNamed(ctx context.Context) error {
	if err := p.runtime.removePods(ctx); err != nil { // CRI-O keeps an image that a container uses
		return err
	}
	return p.runtime.remove(ctx, p.Image)
}

// allowOne gives nil if the image got through everywhere it was tried.
func (p *proof) allowOne(ctx context.Context, one candidate, handlers []string) error {
	var got []Allowed
	if one.pulled {
		within, cancel := context.WithTimeout(ctx, pulls)
		defer cancel()
		id, err := p.runtime.pull(within, one.name)
		if err != nil {
			return err
		}
		one.id = id
		got = append(got, Allowed{Layer: string(verdict.Pull), Image: one.name, Rule: one.rule})
	}
	err := each(handlers, func(handler string) error {
		if err := p.start(ctx, handler, one.id, one.name, p.hook()); err != nil {
			return fmt.Errorf("under the handler %s: %w", handler, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, handler := range handlers {
		got = append(got, Allowed{Layer: string(verdict.Create), Handler: handler, Image: one.name, Rule: one.rule})
	}
	p.receipt.Allowed = append(p.receipt.Allowed, got...)
	return nil
}

// among gives some of the images that are there and that the policy allows: first those
// of a scope that asks for signatures, then pinned ones, then those of a scope that asks
// for nothing.
func among(images []*runtimeapi.Image, rules *policy.Policy) []candidate {
	var signed, pinned, accepted []candidate
	for _, image := range images {
		for _, name := range image.GetRepoDigests() {
			parsed, err := reference.Normalise(name)
			if err != nil || parsed.Digest == "" || ours(name) {
				continue
			}
			one := candidate{name: name, id: image.GetId(), sure: true}
			_, rule, ok := rules.Match(parsed.Repository)
			switch _, revoked := rules.RevokedDigest(parsed.Digest); {
			case revoked:
			case isPinned(rules, parsed.Digest):
				one.rule = "pinned"
				pinned = append(pinned, one)
			case ok && len(rule.Roots) > 0:
				one.rule, one.sure = rule.String(), false
				signed = append(signed, one)
			case ok && rule.Kind == policy.Accept:
				one.rule = rule.String()
				accepted = append(accepted, one)
			}
		}
	}
	var found []candidate
	for _, some := range [][]candidate{signed, pinned, accepted} {
		slices.SortFunc(some, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
		found = append(found, some[:min(len(some), candidates)]...)
	}
	return found
}

func isPinned(rules *policy.Policy, digest string) bool {
	_, ok := rules.Pinned(digest)
	return ok
}
