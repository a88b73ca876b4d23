package evidence

import (
	"log/slog"
	"slices"
	"sync"
)

// These bound what waits to be written; beyond them, PutLater writes itself.
const (
	maxPending      = 32
	maxPendingBytes = 4 << 20
)

// pending is evidence that is on its way to the disk.
type pending struct {
	mu      sync.Mutex
	sets    map[string][]*Set // by folder
	count   int
	bytes   int
	writers sync.WaitGroup
}

// PutLater is Put, except that it does not wait for the disk, which would hold up
// a container start: all who read from this Store see the set at once. What could
// not be written is logged, and gone then. Flush waits for it.
func (s *Store) PutLater(set Set, proven bool) {
	name, err := entryName(set.Repository, set.Digest)
	if err != nil {
		s.lost(set, err)
		return
	}
	if !s.pending.add(name, &set) {
		s.lost(set, s.Put(set, proven))
		return
	}
	s.pending.writers.Go(func() {
		s.lost(set, s.Put(set, proven))
		s.pending.drop(name, &set)
	})
}

// Flush waits until all that was put is on the disk.
func (s *Store) Flush() { s.pending.writers.Wait() }

func (s *Store) lost(set Set, err error) {
	if err != nil {
		slog.Error("EVIDENCE NOT STORED", "repository", set.Repository, "digest", set.Digest, "error", err)
	}
}

// add reports whether there was room.
func (p *pending) add(name string, set *Set) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == maxPending || p.bytes+set.size() > maxPendingBytes {
		return false
	}
	if p.sets == nil {
		p.sets = map[string][]*Set{}
	}
	p.sets[name] = append(p.sets[name], set)
	p.count++
	p.bytes += set.size()
	return true
}

func (p *pending) drop(name string, set *Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count--
	p.bytes -= set.size()
	p.sets[name] = slices.DeleteFunc(p.sets[name], func(other *Set) bool { return other == set })
	if len(p.sets[name]) == 0 {
		delete(p.sets, name)
	}
}

// merge adds to set, which was read from the folder called name, what is on its
// way there.
func (p *pending) merge(name string, set Set) Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, waiting := range p.sets[name] {
		set = set.Merge(Set{Manifest: waiting.Manifest, Attachments: waiting.Attachments, Bundles: waiting.Bundles, Envelopes: waiting.Envelopes})
	}
	return set
}
