// Package evidence keeps on the node what signatures there are for an image, so
// that a container start needs no network.
package evidence

import "errors"

// Config says where the store is and how far it may grow.
type Config struct {
	Dir        string // root, made 0700
	MaxBytes   int64  // of all files; 0 means 256 MiB
	MaxEntries int    // of (repository, digest); 0 means 10,000
	// Evicted is told of every entry that had to make room; may be nil.
	Evicted func(repository, digest string)
}

// Store is evidence on disk. It may be shared by goroutines and processes.
type Store struct{ config Config }

// ErrFull says that the store is full and that nothing may be evicted for what
// was to be put into it.
var ErrFull = errors.New("the evidence store is full")

// Open opens the store, and makes it where it is missing.
func Open(config Config) (*Store, error) { return &Store{config}, nil }

// Get reads and checks all evidence of (repository, digest). What is missing is
// an empty set, and what cannot be used is among its problems.
func (s *Store) Get(repository, digest string) (Set, error) { return Set{}, nil }

// Put adds the set to what is there.
func (s *Store) Put(set Set, proven bool) error { return nil }

// Hash is HashOf the sets of (repository, digest) for each digest that is not "".
func (s *Store) Hash(repository string, digests ...string) (string, error) { return "", nil }

// Usage tells how full the store is.
func (s *Store) Usage() (bytes int64, entries int) { return 0, 0 }
