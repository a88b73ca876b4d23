package evidence

import (
	"cmp"
	"slices"
)

// Entry is what the store has for one (repository, digest).
type Entry struct {
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	Bytes      int64  `json:"bytes"`
	Kept       string `json:"kept"` // why: "proven", "pushed", or "seen"
}

// List gives all entries, by repository and digest.
func (s *Store) List() ([]Entry, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.scan(); err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(s.index.entries))
	for name, u := range s.index.entries {
		repository, digest, ok := parseEntryName(name)
		if !ok {
			continue
		}
		kept := "pushed"
		if u.proven {
			kept = "proven"
		} else if u.seen {
			kept = "seen"
		}
		entries = append(entries, Entry{repository, digest, u.bytes, kept})
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
	})
	return entries, nil
}

// Proven says that the set, as it was read from a store, had satisfied a rule there.
func (s Set) Proven() bool { return s.proven }
