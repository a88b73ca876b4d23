package engine

import (
	"strings"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
)

// full gives REF@DIGEST: the name as written, and the digest of what is judged.
func full(name string, c bind.Candidate) string {
	for _, digest := range []string{c.Manifest, c.Index, c.Config} {
		if digest == "" {
			continue
		}
		if strings.HasSuffix(name, digest) {
			return name
		}
		base, _, _ := strings.Cut(name, "@")
		return base + "@" + digest
	}
	return name
}

// why says in words what allowed an image.
func why(o *judge.Outcome) string {
	switch {
	case o.Code == code.AcceptedByScope:
		return "scope " + o.Scope + " accepts every image"
	case o.Code == code.PinnedDigest:
		return strings.Join(append([]string{"the digest is pinned"}, o.Details...), "; ")
	case o.Format == "":
		return "root " + o.Root
	}
	return "root " + o.Root + ", format " + o.Format
}

func sentence(o *judge.Outcome) string {
	if o.Refusal == nil {
		return string(o.Code)
	}
	return o.Refusal.Error()
}
