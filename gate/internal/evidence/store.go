// Package evidence keeps on the node what signatures there are for an image, so
// that a container start needs no network.
//
// An entry is a folder for one (repository, digest), named as in the lookaside
// stores of containers/image: <dir>/<repository>@sha256=<hex>/. In it lie
//
//	version, manifest.json, signature-N   the dir: layout of containers/image
//	bundle-<sha256 of its bytes>.json     Sigstore bundles
//	notation-<sha256 of its bytes>.jws    Notary Project signatures, or .cose
//	proven                                empty: what is here has satisfied a rule, last at its mtime
//	seen                                  empty: the gate has put all that is older here, and it never did
//
// Files may be dropped into an entry by others (written elsewhere, then renamed
// into place): they need no mark, for what the mark "seen" does not cover was
// pushed. Nothing in the store is trusted: what has a digest is checked
// each time it is read, and signatures are verified by package judge.
//
// The store is bounded. Where it is full, whole entries make room: those that
// were merely seen, oldest first; and for an entry that satisfied a rule, others
// that did or were pushed but not read for a day, the longest unread first. What
// was in use within a day is never dropped; then Put fails with ErrFull instead.
package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"countersign/gate/internal/reference"
)

const (
	defaultMaxBytes   = 256 << 20
	defaultMaxEntries = 10_000

	tempDir  = ".tmp"
	lockFile = ".lock"
	lockWait = 500 * time.Millisecond
)

// Config says where the store is and how far it may grow.
type Config struct {
	Dir        string // root, made 0700
	MaxBytes   int64  // of all files; 0 means 256 MiB
	MaxEntries int    // of (repository, digest); 0 means 10,000
	// Evicted is told of every entry that had to make room; may be nil.
	Evicted func(repository, digest string)
}

// Store is evidence on disk. It may be shared by goroutines and processes.
type Store struct {
	config Config

	mu    sync.Mutex
	index index

	pending pending
}

// ErrFull says that the store is full of what is in use.
var ErrFull = errors.New("the evidence store is full")

// Open opens the store, and makes it where it is missing.
func Open(config Config) (*Store, error) {
	if config.MaxBytes == 0 {
		config.MaxBytes = defaultMaxBytes
	}
	if config.MaxEntries == 0 {
		config.MaxEntries = defaultMaxEntries
	}
	s := &Store{config: config}
	if err := os.MkdirAll(filepath.Join(config.Dir, tempDir), 0o700); err != nil {
		return nil, fmt.Errorf("evidence store: %w", err)
	}
	if err := checkOwner(config.Dir); err != nil {
		return nil, fmt.Errorf("evidence store: %w", err)
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, fmt.Errorf("evidence store: %w", err)
	}
	defer unlock()
	if err := removeStale(filepath.Join(config.Dir, tempDir)); err != nil {
		return nil, fmt.Errorf("evidence store: %w", err)
	}
	return s, s.scan()
}

// Limits tells how much the store holds at most.
func (s *Store) Limits() (bytes int64, entries int) {
	return s.config.MaxBytes, s.config.MaxEntries
}

// Usage tells how full the store was when it was last written or scanned.
func (s *Store) Usage() (bytes int64, entries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.bytes, len(s.index.entries)
}

// Read gives the sets of (repository, digest) by digest, for each digest that is not
// "", and HashOf them.
func (s *Store) Read(repository string, digests ...string) (sets map[string]Set, hash string, err error) {
	sets = map[string]Set{}
	for _, digest := range digests {
		if digest == "" {
			continue
		}
		if sets[digest], err = s.Get(repository, digest); err != nil {
			return nil, "", err
		}
	}
	return sets, HashOf(slices.Collect(maps.Values(sets))...), nil
}

// entryName gives the folder of an entry, below the root. Neither part can have
// a component that leads elsewhere.
func entryName(repository, digest string) (string, error) {
	if err := reference.CheckRepository(repository); err != nil {
		return "", err
	}
	if err := reference.CheckDigest(digest); err != nil {
		return "", err
	}
	return filepath.FromSlash(repository) + "@" + strings.Replace(digest, ":", "=", 1), nil
}

// parseEntryName is the inverse of entryName.
func parseEntryName(name string) (repository, digest string, ok bool) {
	repository, digest, ok = strings.Cut(filepath.ToSlash(name), "@")
	digest = strings.Replace(digest, "=", ":", 1)
	if !ok || reference.CheckRepository(repository) != nil || reference.CheckDigest(digest) != nil {
		return "", "", false
	}
	return repository, digest, true
}

// checkOwner makes dir private, and refuses one that is another user's.
func checkOwner(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of user %d", dir, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return os.Chmod(dir, 0o700)
}

// lock keeps all other writers out, also those of other processes.
func (s *Store) lock() (unlock func(), err error) {
	s.mu.Lock()
	file, err := os.OpenFile(filepath.Join(s.config.Dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if err = flock(file); err != nil {
		file.Close()
		s.mu.Unlock()
		return nil, err
	}
	return func() {
		file.Close() // which gives up the flock
		s.mu.Unlock()
	}, nil
}

// flock waits for the lock, but not for ever: a writer that was stopped must not
// stop the gate.
func flock(file *os.File) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(deadline) {
			return &fs.PathError{Op: "flock", Path: file.Name(), Err: err}
		}
	}
}

// removeStale clears what writers that died have left.
func removeStale(dir string) error {
	leftovers, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		info, err := leftover.Info()
		if err == nil && time.Since(info.ModTime()) > time.Hour {
			err = os.RemoveAll(filepath.Join(dir, leftover.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
