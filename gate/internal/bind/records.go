package bind

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

const (
	maxDepth     = 3   // indexes inside indexes
	maxManifests = 512 // in one record
	maxRecords   = 128 // of one repository, looked at when the named one moved
)

// uses says whether an image with this config is the one in use.
type uses func(ctx context.Context, config string) (bool, error)

// record is an image record of containerd: a name and the digest it leads to.
type record struct {
	name   string
	target string
}

// named finds the candidates of a name that has a repository. The record of that
// very name comes first; if it moved, another record of the same repository may
// lead there, and for repository@digest only one with that digest as target.
func (s *session) named(ctx context.Context, name reference.Name, use uses) ([]Candidate, error) {
	own, err := s.record(ctx, name.String())
	if err != nil && !isNotFound(err) {
		return nil, s.unreachable("image "+name.String(), err)
	}
	var damage error
	if own != nil {
		if name.Digest != "" && own.target != name.Digest {
			return nil, code.Refuse(code.NotWhatRuns, fmt.Sprintf("the image record %s leads to %s", name, own.target),
				"the digest in its name", "pull the image again")
		}
		if found, err := s.candidates(ctx, own.target, use); len(found) > 0 || isUnreachable(err) {
			return found, err
		} else if err != nil {
			damage = err
		}
	}
	others, err := s.recordsOf(ctx, name.Repository)
	if err != nil {
		return nil, s.unreachable("images of "+name.Repository, err)
	}
	for _, other := range others {
		if name.Digest != "" && other.target != name.Digest {
			continue
		}
		if found, err := s.candidates(ctx, other.target, use); len(found) > 0 || isUnreachable(err) {
			return found, err
		} else if err != nil && damage == nil {
			damage = err
		}
	}
	switch {
	case damage != nil:
		return nil, damage
	case own == nil && len(others) == 0:
		return nil, code.Refuse(code.NoRecord, "no image record "+name.String()+", nor another of its repository",
			"the record that a pull or an import leaves", "pull the image by this name")
	}
	return nil, code.Refuse(code.NotWhatRuns, fmt.Sprintf("no image record of %s leads to what the container uses", name.Repository),
		"the name to lead to the container's own config and layers", "pull the image again and create the container anew")
}

// unnamed finds the candidates of a name in ID form: those of the record that CRI
// keeps under the image ID. There may be none.
func (s *session) unnamed(ctx context.Context, id string, use uses) ([]Candidate, error) {
	own, err := s.record(ctx, id)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, s.unreachable("image "+id, err)
	}
	return s.candidates(ctx, own.target, use)
}

// recordsOf lists the image records of a repository, a record that contradicts
// its own digest left out.
func (s *session) recordsOf(ctx context.Context, repository string) ([]record, error) {
	filter := "name~=" + strconv.Quote("^"+regexp.QuoteMeta(repository)+"[:@]")
	response, err := s.images.List(ctx, &imagesapi.ListImagesRequest{Filters: []string{filter}})
	if err != nil {
		return nil, err
	}
	var records []record
	for _, image := range response.GetImages() {
		name, err := reference.Normalise(image.GetName())
		target := image.GetTarget().GetDigest()
		if err != nil || name.Repository != repository || (name.Digest != "" && name.Digest != target) {
			continue
		}
		if records = append(records, record{image.GetName(), target}); len(records) == maxRecords {
			break
		}
	}
	return records, nil
}

// candidates walks from a record's target to every manifest whose config is in
// use. A sibling that is absent or damaged is not an obstacle; if nothing is found,
// damage is the reason.
func (s *session) candidates(ctx context.Context, target string, use uses) ([]Candidate, error) {
	w := walk{session: s, use: use}
	w.visit(ctx, "", ocispec.Descriptor{Digest: digest.Digest(target)}, 0)
	if w.fatal != nil {
		return nil, w.fatal
	}
	if len(w.found) == 0 {
		return nil, w.damage
	}
	// Where several manifests are in use the platform decides their order, and
	// nothing else.
	matcher := platforms.Default()
	slices.SortStableFunc(w.found, func(a, c found) int {
		return rank(matcher, a) - rank(matcher, c)
	})
	result := make([]Candidate, len(w.found))
	for i, f := range w.found {
		result[i] = f.Candidate
	}
	return result, nil
}

type found struct {
	Candidate
	platform *ocispec.Platform
}

func rank(matcher platforms.Matcher, f found) int {
	if f.platform == nil || matcher.Match(*f.platform) {
		return 0
	}
	return 1
}

type walk struct {
	session *session
	use     uses
	visited int
	found   []found
	damage  error // why a branch could not be followed
	fatal   error // why no branch can
}

// visit follows one branch. index is the record's own index, which is what a
// signature on "the index" means.
func (w *walk) visit(ctx context.Context, index string, at ocispec.Descriptor, depth int) {
	if w.visited++; w.visited > maxManifests || depth > maxDepth {
		w.fatal = malformed(at.Digest.String(), fmt.Sprintf("more than %d manifests, or more than %d levels", maxManifests, maxDepth))
	}
	if w.fatal != nil {
		return
	}
	document, err := w.session.document(ctx, at.Digest.String())
	if err != nil {
		w.fail(err)
		return
	}
	if document.IsIndex {
		if index == "" {
			index = at.Digest.String()
		}
		for _, c := range document.Children {
			w.visit(ctx, index, c, depth+1)
		}
		return
	}
	used, err := w.use(ctx, document.Config)
	switch {
	case err != nil:
		w.fail(err)
	case used:
		w.found = append(w.found, found{Candidate{index, at.Digest.String(), document.Config}, at.Platform})
	}
}

// fail notes why a branch ended. An absent document is not a reason at all: most
// nodes hold one platform only.
func (w *walk) fail(err error) {
	var refusal *code.Refusal
	switch {
	case errors.Is(err, errAbsent):
	case errors.As(err, &refusal) && (refusal.Code == code.Tampered || refusal.Code == code.Malformed):
		w.damage = err
	default:
		w.fatal = err
	}
}
