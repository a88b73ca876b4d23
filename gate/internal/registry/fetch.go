package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/reference"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is beyond these bounds is MALFORMED. A node's memory hangs on them.
const (
	maxSignatures = 64      // read per digest and format
	maxContent    = 4 << 20 // bytes of signatures, per digest and format
)

// parallel is the number of requests of one look-up at a time, so that slow
// content hides no other.
const parallel = 8

// Fetch gets the evidence of (repository, digest): the manifest, unless it is
// known, signatures under cosign's tag, and bundles among the referrers.
// It implements evidence.Fetcher.
func (c *Client) Fetch(ctx context.Context, repository, digest string, known []byte) (evidence.Set, error) {
	set := evidence.Set{Repository: repository, Digest: digest, Manifest: known}
	if err := reference.CheckDigest(digest); err != nil {
		return set, malformed(err.Error(), "a sha256 digest")
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	s, err := c.open(ctx, repository)
	if err != nil {
		return set, err
	}
	defer s.close()
	f := &fetch{session: s, digest: digest, slots: make(chan struct{}, parallel)}
	var manifest Manifest
	var failures [3]error
	var wait sync.WaitGroup
	if known == nil {
		wait.Go(func() { manifest, _, failures[0] = s.manifest(ctx, digest, maxManifest) })
	}
	wait.Go(func() { set.Attachments, failures[1] = f.attachments(ctx) })
	wait.Go(func() { set.Bundles, failures[2] = f.bundles(ctx) })
	wait.Wait()
	if known == nil {
		set.Manifest = manifest.Raw
	}
	set.Problems = f.problems
	return set, f.split(&set, failures[:])
}

// fetch is one look-up of one digest.
type fetch struct {
	*session
	digest string
	slots  chan struct{}

	mu       sync.Mutex
	problems []*code.Refusal
}

// found notes something that cannot be used.
func (f *fetch) found(problem error) {
	var refusal *code.Refusal
	if !errors.As(problem, &refusal) {
		refusal = broken(f.registry, problem)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problems = append(f.problems, refusal)
}

// split puts what is wrong with the content among the set's problems, and
// returns the first failure to look up.
func (f *fetch) split(set *evidence.Set, failures []error) error {
	var first error
	for _, failure := range failures {
		var refusal *code.Refusal
		switch {
		case failure == nil:
		case errors.As(failure, &refusal) && (refusal.Code == code.Malformed || refusal.Code == code.Tampered):
			set.Problems = append(set.Problems, refusal)
		case first == nil:
			first = failure
		}
	}
	return first
}

// tag gives the tag under which cosign (suffix ".sig") and the referrers tag
// schema of OCI 1.1 (no suffix) keep what belongs to a digest.
func (f *fetch) tag(suffix string) string {
	return strings.Replace(f.digest, ":", "-", 1) + suffix
}

// each calls get for every layer, several at a time, and gives the results that
// came, in order. What fails is a problem of that one alone.
func each[T any](f *fetch, layers []ocispec.Descriptor, get func(ocispec.Descriptor) (T, error)) []T {
	results := make([]T, len(layers))
	ok := make([]bool, len(layers))
	var wait sync.WaitGroup
	for i, layer := range layers {
		wait.Go(func() {
			f.slots <- struct{}{}
			defer func() { <-f.slots }()
			result, err := get(layer)
			if err != nil {
				f.found(err)
				return
			}
			results[i], ok[i] = result, true
		})
	}
	wait.Wait()
	var out []T
	for i := range results {
		if ok[i] {
			out = append(out, results[i])
		}
	}
	return out
}

// parsed reads an image manifest.
func (f *fetch) parsed(raw []byte) (ocispec.Manifest, error) {
	var image struct {
		ocispec.Manifest
		Layers json.RawMessage `json:"layers"`
	}
	err := json.Unmarshal(raw, &image)
	if err == nil {
		image.Manifest.Layers, err = f.list("layers", image.Layers)
	}
	return image.Manifest, err
}

// list reads an array of descriptors, the first maxListed of it.
func (f *fetch) list(what string, raw json.RawMessage) ([]ocispec.Descriptor, error) {
	listed, more, err := bounded.List[ocispec.Descriptor](raw, maxListed)
	if more {
		f.found(malformed(fmt.Sprintf("%s has more than %d %s", f.digest, maxListed, what), "a shorter list"))
	}
	return listed, err
}

// fit keeps those layers whose content is within the bounds. The first of them
// count, since signers append; of these the smallest are read first, for
// signatures are small, and nobody is to push them out with something large.
func (f *fetch) fit(what string, layers []ocispec.Descriptor) []ocispec.Descriptor {
	layers = cut(f, what, layers)
	slices.SortStableFunc(layers, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Size, b.Size) })
	left := int64(maxContent)
	var within []ocispec.Descriptor
	for _, layer := range layers {
		if layer.Size < 0 || layer.Size > min(maxBlob, left) {
			f.found(malformed(fmt.Sprintf("%s: blob %s has %d bytes", f.digest, layer.Digest, layer.Size),
				fmt.Sprintf("at most %d, and at most %d of all %s", maxBlob, maxContent, what)))
			continue
		}
		left -= layer.Size
		within = append(within, layer)
	}
	return within
}

// cut keeps the first maxSignatures of items, and notes where there are more.
func cut[T any](f *fetch, what string, items []T) []T {
	if len(items) <= maxSignatures {
		return items
	}
	f.found(malformed(fmt.Sprintf("%s has %d %s", f.digest, len(items), what), fmt.Sprintf("at most %d", maxSignatures)))
	return items[:maxSignatures]
}
