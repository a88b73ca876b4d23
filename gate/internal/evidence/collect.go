package evidence

import "context"

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
type Fetcher interface {
	Fetch(ctx context.Context, repository, digest string, known []byte) (Set, error)
}

// Collector reads evidence from the store first, and then from the registry.
type Collector struct {
	Store    *Store
	Registry Fetcher // nil: the store is all there is
}

// Collect gives what the store has, or else what the registry has, which it
// puts into the store.
func (c *Collector) Collect(ctx context.Context, repository, digest string) (Set, Source, error) {
	return Set{}, FromStore, nil
}
