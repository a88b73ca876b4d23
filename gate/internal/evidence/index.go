package evidence

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	keepFor     = 24 * time.Hour // an entry that satisfied a rule is kept so long after its last use
	rescanAfter = time.Minute    // for files that others have dropped
)

// index is what is known about the size of the store.
type index struct {
	entries map[string]usage // by folder
	bytes   int64
	scanned time.Time
	written time.Time // mtime of the lock file, by which writers tell each other
}

type usage struct {
	bytes  int64
	proven bool
	seen   bool // nothing but what the gate has collected, and not proven
	used   time.Time
}

// scan reads the index from disk. The store must be locked.
func (s *Store) scan() error {
	fresh := index{entries: map[string]usage{}, scanned: time.Now()}
	err := filepath.WalkDir(s.config.Dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!entry.IsDir() || path == s.config.Dir) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.config.Dir, path)
		if err != nil || name == tempDir {
			return cmp.Or(err, fs.SkipDir)
		}
		if _, _, ok := parseEntryName(name); !ok {
			return nil
		}
		u, err := s.measure(name)
		fresh.entries[name] = u
		fresh.bytes += u.bytes
		return cmp.Or(err, fs.SkipDir)
	})
	if err != nil {
		return fmt.Errorf("evidence store: %w", err)
	}
	if info, err := os.Stat(filepath.Join(s.config.Dir, lockFile)); err == nil {
		fresh.written = info.ModTime()
	}
	s.index = fresh
	return nil
}

// measure reads the usage of one entry from disk.
func (s *Store) measure(name string) (usage, error) {
	files, err := os.ReadDir(filepath.Join(s.config.Dir, name))
	var u usage
	var marked, changed time.Time // when the mark "seen" was made, and the last change of anything else
	for _, file := range files {
		info, infoErr := file.Info()
		if errors.Is(infoErr, fs.ErrNotExist) {
			continue
		}
		if infoErr != nil {
			return u, infoErr
		}
		u.bytes += info.Size()
		if file.Name() == seenFile {
			marked = ctime(info)
			continue
		}
		if at := ctime(info); at.After(changed) {
			changed = at
		}
		switch {
		case file.Name() == provenFile:
			u.proven, u.used = true, info.ModTime()
		case !u.proven && info.ModTime().After(u.used):
			u.used = info.ModTime()
		}
	}
	u.seen = !u.proven && !marked.IsZero() && !changed.After(marked)
	return u, err
}

// ctime says when a file came to be where it is: its mtime may be that of a copy's
// source.
func ctime(info fs.FileInfo) time.Time {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime()
	}
	return time.Unix(stat.Ctim.Unix())
}

// refresh scans the store anew where the index may be wrong.
func (s *Store) refresh() error {
	info, err := os.Stat(filepath.Join(s.config.Dir, lockFile))
	if err == nil && info.ModTime().Equal(s.index.written) && time.Since(s.index.scanned) < rescanAfter {
		return nil
	}
	return s.scan()
}

// noteWrite brings the index up to date after an entry was written, and tells
// other processes to do the same.
func (s *Store) noteWrite(name string) error {
	u, err := s.measure(name)
	if err != nil {
		return fmt.Errorf("evidence store: %w", err)
	}
	s.index.bytes += u.bytes - s.index.entries[name].bytes
	s.index.entries[name] = u
	now := time.Now()
	if err := os.Chtimes(filepath.Join(s.config.Dir, lockFile), now, now); err != nil {
		return fmt.Errorf("evidence store: %w", err)
	}
	info, err := os.Stat(filepath.Join(s.config.Dir, lockFile))
	if err == nil {
		s.index.written = info.ModTime()
	}
	return err
}

// makeRoom evicts until size more bytes fit into the entry called name, or fails with
// ErrFull and evicts nothing.
func (s *Store) makeRoom(name string, size int64, proven bool) error {
	if err := s.refresh(); err != nil {
		return err
	}
	bytes, entries := s.index.bytes, len(s.index.entries)
	if _, ok := s.index.entries[name]; !ok {
		entries++
	}
	bytes += size
	if bytes <= s.config.MaxBytes && entries <= s.config.MaxEntries {
		return nil // without a look at who would have to go
	}
	var victims []string
	for _, candidate := range s.candidates(name, proven) {
		if bytes <= s.config.MaxBytes && entries <= s.config.MaxEntries {
			break
		}
		victims = append(victims, candidate)
		bytes -= s.index.entries[candidate].bytes
		entries--
	}
	if bytes > s.config.MaxBytes || entries > s.config.MaxEntries {
		return fmt.Errorf("%w: %d of %d bytes, %d of %d entries", ErrFull,
			s.index.bytes, s.config.MaxBytes, len(s.index.entries), s.config.MaxEntries)
	}
	return s.evict(victims)
}

// candidates lists what may be evicted for name, in order.
func (s *Store) candidates(name string, proven bool) []string {
	var names []string
	for other, u := range s.index.entries {
		if other == name || !u.seen && (!proven || time.Since(u.used) < keepFor) {
			continue
		}
		names = append(names, other)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := s.index.entries[a], s.index.entries[b]
		switch {
		case x.seen && !y.seen:
			return -1
		case y.seen && !x.seen:
			return 1
		}
		return cmp.Or(x.used.Compare(y.used), strings.Compare(a, b))
	})
	return names
}

func (s *Store) evict(names []string) error {
	for _, name := range names {
		if err := s.remove(name); err != nil {
			return fmt.Errorf("evidence store: %w", err)
		}
		s.index.bytes -= s.index.entries[name].bytes
		delete(s.index.entries, name)
		if repository, digest, ok := parseEntryName(name); ok && s.config.Evicted != nil {
			s.config.Evicted(repository, digest)
		}
	}
	return nil
}
