package engine

import (
	"strings"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/verdict"
)

// full gives REF@DIGEST: the name as written, and the digest of what is judged. A
// name that is too long for one is cut, so that the code after it can be read.
func full(name string, c bind.Candidate) string {
	name = bounded.Text(name, verdict.MaxName)
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

// sentence says why an image is refused, and of an image volume that it is one. Of an
// image that goes by several names it says that one of them is in the way.
func (s subject) sentence(o *judge.Outcome) string {
	if o.Refusal == nil {
		return string(o.Code)
	}
	told := *o.Refusal
	told.Do = strings.Replace(told.Do, "--image REF", "--image "+s.reference(), 1)
	if s.byID {
		told.Found = "the container names its image by ID, and this is one of the names that the node has for it: " + told.Found
		told.Do += "; or, if this name should not count, remove it from the node: crictl rmi " + s.reference()
	}
	if s.volume != "" {
		told.Found = "as the image volume " + s.volume + ": " + told.Found
	}
	return told.Error()
}

// reference is the image as a command of ours would be given it.
func (s subject) reference() string {
	if s.repository == "" {
		return "REF"
	}
	return bounded.Text(s.name, verdict.MaxName)
}
