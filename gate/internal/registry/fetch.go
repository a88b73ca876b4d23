package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// What is beyond these bounds is MALFORMED. A node's memory hangs on them.
const (
	maxSignatures = 64        // read per digest, format and host
	maxContent    = 512 << 10 // bytes of signatures, per digest, format and host
	maxProblems   = 64        // told

	// EveryType, as a predicate type, has Fetch read attestations of all types.
	EveryType = "*"

	// maxAttestations that say to be of a wanted type are read beside signatures.
	maxAttestations = 32
)

// parallel is the number of requests of one look-up to one host at a time, so that
// slow content hides no other.
const parallel = 8

// Fetch gets all evidence of (repository, digest): the manifest, unless it is
// known, signatures under cosign's tag, and bundles and signatures among the
// referrers; and attestations of the given predicate types, also under cosign's tag for
// those. All hosts of the registry are asked at once, and what any of them has
// counts: a mirror may be empty, or behind. A host that failed is the error.
// It implements evidence.Fetcher.
func (c *Client) Fetch(ctx context.Context, repository, digest string, known []byte, types ...string) (evidence.Set, error) {
	sets, errs := c.Search(ctx, evidence.Search{Sets: []evidence.Set{{Repository: repository, Digest: digest, Manifest: known}}, Types: types})
	return sets[0], errs[0]
}

// fetch is one question about one digest to one host, the first of its session.
type fetch struct {
	*session
	digest        string
	types         []string // predicate types of the attestations that are wanted
	spool         string   // for large ones
	referrersNeed docker.HostCapabilities
	slots         chan struct{}
	referrers     *referrers // of the digest at the host
	habits        *habits

	mu          sync.Mutex
	attachments []evidence.Attachment
	bundles     []evidence.Bundle
	envelopes   []evidence.Envelope
	large       []evidence.Large
	problems    []*code.Refusal
	raw         []byte // the manifest or index
	failure     error
}

// set is what was found.
func (f *fetch) set() evidence.Set {
	return evidence.Set{Manifest: f.raw, Attachments: f.attachments, Bundles: f.bundles, Envelopes: f.envelopes, Large: f.large, Problems: f.problems}
}

// lists says whether the fetch's host may be asked for what needs that.
func (f *fetch) lists(needs docker.HostCapabilities) bool { return f.hosts[0].Capabilities.Has(needs) }

// split puts what is wrong with the content among the set's problems, and
// returns the first failure to look up.
func split(set *evidence.Set, failures []error) error {
	var first error
	for _, failure := range failures {
		for _, one := range parts(failure) {
			var refusal *code.Refusal
			switch {
			case errors.As(one, &refusal) && (refusal.Code == code.Malformed || refusal.Code == code.Tampered):
				set.Problems = append(set.Problems, refusal)
			case first == nil:
				first = one
			}
		}
	}
	return first
}

// parts undoes errors.Join.
func parts(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		return joined.Unwrap()
	}
	return []error{err}
}

// tagOf gives sha256-<hex> for a digest.
func tagOf(digest string) string { return strings.Replace(digest, ":", "-", 1) }

// withPart leaves a third of the time to what comes after.
func withPart(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)*2/3)
}

// each calls get for every item, several at a time, and gives the results that
// came, in order. What fails is a problem of that one alone.
func each[T any](f *fetch, items []descriptor, get func(descriptor) (T, error)) []T {
	results := make([]T, len(items))
	ok := make([]bool, len(items))
	var wait sync.WaitGroup
	for i, item := range items {
		wait.Go(func() {
			f.slots <- struct{}{}
			defer func() { <-f.slots }()
			result, err := get(item)
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

// room is how many bytes of one kind may still be read.
type room struct {
	mu   sync.Mutex
	left int64
}

func newRoom() *room { return &room{left: maxContent} }

// fit keeps those layers whose content is within the bounds. The first of them
// count, since signers append; of these the smallest are read first, for
// signatures are small, and nobody is to push them out with something large.
func (f *fetch) fit(what string, layers []descriptor, r *room) []descriptor {
	size := func(d descriptor) int64 { return d.Size + int64(d.weight()) }
	if len(layers) > maxSignatures {
		f.found(malformed(fmt.Sprintf("%s has %d %s", f.digest, len(layers), what), fmt.Sprintf("at most %d", maxSignatures)))
	}
	layers = slices.Clone(layers[:min(len(layers), maxSignatures)])
	slices.SortStableFunc(layers, func(a, b descriptor) int { return cmp.Compare(size(a), size(b)) })
	r.mu.Lock()
	defer r.mu.Unlock()
	var within []descriptor
	for _, layer := range layers {
		if layer.Size < 0 || layer.Size > maxBlob || size(layer) > r.left {
			f.found(malformed(fmt.Sprintf("%s: blob %.80q has %d bytes", f.digest, layer.Digest, layer.Size),
				fmt.Sprintf("at most %d, and at most %d of all %s", maxBlob, maxContent, what)))
			continue
		}
		r.left -= size(layer)
		within = append(within, layer)
	}
	return within
}
