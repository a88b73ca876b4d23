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
//
// Search asks for the evidence of one image, and for no more than it takes. What it gives
// is for each set that was handed in what the registry has added; the error beside it is
// that of Fetch, and nil where enough was found.
type Fetcher interface {
	Fetch(ctx context.Context, repository, digest string, known []byte, types ...string) (Set, error)
	Search(ctx context.Context, s Search) ([]Set, []error)
}

// Search is a question for whatever satisfies somebody, rather than for all there is.
type Search struct {
	Sets  []Set    // one for each digest that counts, of one repository, with the manifests that are known; the likeliest last
	Types []string // predicate types of the attestations that are wanted

	// Tagged and Referred say where what is wanted can lie: under cosign's tags, or among
	// referrers. Other places are asked only before something is called absent.
	Tagged, Referred bool

	// Like names what is signed in one way, such as all that one rule is about: where
	// that was enough the last time is asked first.
	Like string

	// Enough says whether what was found is enough. It is asked again whenever there is
	// more, and about all that Search gives.
	Enough func(found []Set) bool
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
