package doctor

import "regexp"

var byDigest = regexp.MustCompile(`@(sha256:[0-9a-f]{64})$`)

// sandboxProblems finds what is wrong with the sandbox's image: no hook sees what runs
// there, so it has to be named by digest, and pinned by the policy.
func (n *Node) sandboxProblems(where, image, mend string) ([]Finding, error) {
	digest := byDigest.FindStringSubmatch(image)
	if digest == nil {
		return []Finding{{where, shown(image), "an image by digest: no hook sees sandboxes", mend}}, nil
	}
	p, err := n.settings.PolicyFile().Read()
	if err != nil {
		return nil, after("gate.policy")
	}
	if _, pinned := p.Pinned(digest[1]); pinned {
		return nil, nil
	}
	return []Finding{{where, shown(image) + ", which the policy does not pin", "an image that the policy pins", n.options.again("add " + image + " to pinned in the policy, and render it to this node again")}}, nil
}
