package evidence

import (
	"context"
	"errors"
)

// Source says where evidence came from.
type Source string

// The sources of evidence.
const (
	FromStore    Source = "store"
	FromRegistry Source = "registry"
)

// Fetcher asks a registry for the evidence of (repository, digest): the raw
// manifest (unless it is known already) and all signatures within the bounds.
// Absence is an empty set. The error is a *code.Refusal and tells that, or
// why, the look-up is not complete; what was found is in the set all the same.
// Attestations are among it whose predicate type is one of types.
type Fetcher interface {
	Fetch(ctx context.Context, repository, digest string, known []byte, types ...string) (Set, error)
}

// Collector reads evidence from the store, and from the registry.
type Collector struct {
	Store    *Store  // nil: nothing is kept
	Registry Fetcher // nil: the store is all there is
}

// Collect gives what the store has; where that is not a signature at all, what the
// registry has, which it puts into the store. It verifies nothing. Pulls under a
// rule that asks for no signature use it, so that a stricter policy later finds
// evidence on the node. The error tells that the store or the registry could not
// be read; the set has what was found all the same.
func (c *Collector) Collect(ctx context.Context, repository, digest string) (Set, Source, error) {
	set, err := c.Stored(repository, digest)
	if !set.Empty() || c.Registry == nil {
		return set, FromStore, err
	}
	fetched, fetchErr := c.Registry.Fetch(ctx, repository, digest, set.Manifest)
	set = set.Merge(fetched)
	if !set.Empty() {
		c.Keep(set, false)
	}
	return set, FromRegistry, errors.Join(err, fetchErr)
}

// Stored gives what the store has.
func (c *Collector) Stored(repository, digest string) (Set, error) {
	if c.Store == nil {
		return Set{Repository: repository, Digest: digest}, nil
	}
	return c.Store.Get(repository, digest)
}

// Keep puts set into the store; see Store.PutLater. Large bundles are moved there at
// once, and are gone where that fails.
func (c *Collector) Keep(set Set, proven bool) {
	if c.Store != nil && len(set.Large) > 0 {
		c.Store.lost(set, c.Store.Put(set, proven))
		c.Store.discard(set)
		return
	}
	if c.Store != nil {
		c.Store.PutLater(set, proven)
	}
}
