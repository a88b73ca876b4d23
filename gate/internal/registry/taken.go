package registry

import "sync"

// referrers are those of one digest at one host, however often that is asked for them.
type referrers struct {
	mu    sync.Mutex
	all   bool // of every rank; else only the best, if there are any
	list  *shortlist
	taken map[string]bool

	bundles, stated, signatures, envelopes *room
}

func newReferrers(all bool) *referrers {
	return &referrers{all: all, list: newShortlist(), taken: map[string]bool{}, bundles: newRoom(), stated: newRoom(), signatures: newRoom(), envelopes: newRoom()}
}

// readAll has everything read from now on: what was left, by whoever comes next.
func (r *referrers) readAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = true
}

// take adds what was listed, and gives what is to be read now: signatures and wanted
// attestations.
func (r *referrers) take(f *fetch, listed *shortlist) (signatures, attestations []descriptor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list.merge(listed)
	best := r.list.ranks[0]
	if r.all || len(best) == 0 {
		best = r.list.best(f, "referrers")
	}
	return r.untaken(best), r.untaken(r.list.attestations(f))
}

func (r *referrers) untaken(list []descriptor) (fresh []descriptor) {
	for _, d := range list {
		if !r.taken[d.Digest] {
			r.taken[d.Digest] = true
			fresh = append(fresh, d)
		}
	}
	return fresh
}
