package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/expiry"
	"countersign/gate/internal/policy"
)

// warned is how long before its end something is told.
const warned = 30 * 24 * time.Hour

// oldest is for how long a key may be in use before that is told.
const oldest = 365 * 24 * time.Hour

// stalest is how old a list of what is revoked may be before that is told: who keeps one
// confirms it more often, and one that is left behind looks like one without news.
const stalest = 90 * 24 * time.Hour

// nothingEnds warns of what a policy's roots of trust rest on and what ends soon, or has
// ended. Nothing runs unseen by it: what is good is refused then.
func nothingEnds(n *Node) ([]Finding, error) {
	p, err := policy.Load(n.settings.Policy)
	if err != nil {
		return nil, skipped("the policy cannot be read")
	}
	return endings(p, time.Now()), nil
}

// endings gives a finding for each part of the policy's roots that ends within a month
// of now, or is older than a year, and for each list of what is revoked that is stale.
func endings(p *policy.Policy, now time.Time) []Finding {
	roots := p.Roots()
	slices.SortFunc(roots, func(a, b policy.Root) int { return strings.Compare(a.Name, b.Name) })
	var found []Finding
	for _, r := range roots {
		for _, each := range expiry.Parts(r) {
			if each.At.IsZero() || each.At.After(now.Add(warned)) {
				continue
			}
			ends := "ends "
			if !each.At.After(now) {
				ends = "ended "
			}
			wanted := fmt.Sprintf("good for another %d days", int(warned.Hours()/24))
			found = append(found, Finding{"roots." + r.Name + ": " + each.What, ends + each.At.UTC().Format(time.DateOnly), wanted, each.Mend})
		}
		for _, each := range expiry.Aged(p, r) {
			if now.Sub(each.At) > oldest {
				wanted := fmt.Sprintf("one that is at most %d days old", int(oldest.Hours()/24))
				found = append(found, Finding{"roots." + r.Name + ": " + each.What, "in use since " + each.At.UTC().Format(time.DateOnly), wanted, each.Mend})
			}
		}
	}
	for _, list := range p.Lists {
		if at := list.At(); now.Sub(at) > stalest {
			found = append(found, Finding{"revoked.lists: " + list.Name, "issued on " + list.Issued, fmt.Sprintf("a list of the last %d days", int(stalest.Hours()/24)),
				"bring its newest version into the policy, and then policy.apply; if this is it, its signer issues it anew with a higher serial"})
		}
	}
	return found
}
