package evidence

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// maxWriters bounds the files that are written at a time. Each takes a thread while
// it waits for the disk.
const maxWriters = 8

// Put adds the set to what is there. Proven says that it has satisfied a rule:
// its signatures then come first where an entry is full, and the entry is kept
// before those that never did. It may fail with ErrFull.
func (s *Store) Put(set Set, proven bool) error {
	name, err := entryName(set.Repository, set.Digest)
	if err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return fmt.Errorf("evidence store: %w", err)
	}
	defer unlock()
	have, err := s.read(name, set.Repository, set.Digest)
	if err != nil {
		return err
	}
	files, stale := layout(have, set, proven)
	moved := missing(have.Large, keepWithin(have.Large, set.Large, proven, maxLargePerEntry))
	if proven && !have.proven {
		files[provenFile] = nil
	}
	if len(files) == 0 && len(stale) == 0 && len(moved) == 0 {
		return nil
	}
	if err := s.makeRoom(name, bytesOf(files, moved), proven); err != nil {
		return err
	}
	before, err := s.measure(name)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isNew {
		return fmt.Errorf("evidence store: %w", err)
	}
	if err := s.move(name, moved); err != nil {
		return fmt.Errorf("evidence store: %w", err)
	}
	if err := s.write(name, files, stale); err != nil {
		return fmt.Errorf("evidence store: %w", err)
	}
	if !proven && (isNew || before.seen) {
		// After all else: what is put here later than the mark was pushed.
		if err := s.writeFile(filepath.Join(s.config.Dir, name, seenFile), nil); err != nil {
			return fmt.Errorf("evidence store: %w", err)
		}
	}
	return s.noteWrite(name)
}

// MarkProven notes that the set, which was read from the store, has satisfied a
// rule.
func (s *Store) MarkProven(set Set) error {
	name, err := entryName(set.Repository, set.Digest)
	if err != nil || set.proven {
		return err
	}
	file, err := os.OpenFile(filepath.Join(s.config.Dir, name, provenFile), os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // evicted meanwhile
	}
	if err != nil {
		return fmt.Errorf("evidence store: %w", err)
	}
	return file.Close()
}

// layout gives the files that an entry lacks, by name, and the names of those
// that it must lose: what cannot be read, and what no longer fits.
func layout(have, set Set, proven bool) (files map[string][]byte, stale []string) {
	files = map[string][]byte{}
	if have.Manifest == nil && set.Manifest != nil {
		files[manifestFile] = set.Manifest
	}
	attachments := keep(have.Attachments, set.Attachments, proven)
	if have.dir == "" || !slices.EqualFunc(have.Attachments, attachments, same[Attachment]) {
		for i, a := range attachments {
			files[signatureName(i+1)] = a.blob()
		}
		for n := len(attachments) + 1; n <= maxPerKind; n++ {
			stale = append(stale, signatureName(n))
		}
		files[versionFile] = []byte(dirVersion)
	}
	for _, b := range added(have.Bundles, set.Bundles, proven, &stale, bundleName) {
		files[bundleName(b)] = b.JSON
	}
	for _, e := range added(have.Envelopes, set.Envelopes, proven, &stale, envelopeName) {
		files[envelopeName(e)] = e.Raw
	}
	return files, stale
}

// added gives what an entry lacks of what comes, and appends to stale the names of what
// no longer fits.
func added[T interface{ ID() string }](have, come []T, proven bool, stale *[]string, name func(T) string) (lacks []T) {
	kept := keep(have, come, proven)
	for _, item := range kept {
		if !slices.ContainsFunc(have, func(h T) bool { return same(h, item) }) {
			lacks = append(lacks, item)
		}
	}
	for _, item := range have {
		if !slices.ContainsFunc(kept, func(k T) bool { return same(k, item) }) {
			*stale = append(*stale, name(item))
		}
	}
	return lacks
}

// keep unites what an entry has and what comes, within the bound.
func keep[T interface{ ID() string }](have, come []T, proven bool) []T {
	return keepWithin(have, come, proven, maxPerKind)
}

func keepWithin[T interface{ ID() string }](have, come []T, proven bool, bound int) []T {
	all := union(have, come)
	if len(all) <= bound {
		return all
	}
	if proven {
		all = union(come, have)
	}
	return all[:bound]
}

func same[T interface{ ID() string }](a, b T) bool { return a.ID() == b.ID() }

// missing gives those of all that an entry does not have.
func missing(have, all []Large) []Large {
	return slices.DeleteFunc(slices.Clone(all), func(l Large) bool {
		return slices.ContainsFunc(have, func(h Large) bool { return same(h, l) })
	})
}

func bytesOf(files map[string][]byte, moved []Large) (total int64) {
	for _, data := range files {
		total += int64(len(data))
	}
	for _, l := range moved {
		total += l.Size
	}
	return total
}

// move puts large bundles, which lie in the store's own folder for what is on its way,
// into an entry. What a crash cuts short is seen by its digest.
func (s *Store) move(name string, moved []Large) error {
	dir := filepath.Join(s.config.Dir, name)
	if len(moved) > 0 {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, l := range moved {
		if err := os.Rename(l.Path, filepath.Join(dir, bundlePrefix+l.Sum+".json")); err != nil {
			return err
		}
	}
	return nil
}

// Dir is the store's folder.
func (s *Store) Dir() string { return s.config.Dir }

// Spool is the folder in which large bundles lie on their way into the store.
func (s *Store) Spool() string { return filepath.Join(s.config.Dir, tempDir) }

// discard removes what a set has in the spool and was not moved.
func (s *Store) discard(set Set) {
	for _, l := range set.Large {
		if filepath.Dir(l.Path) == s.Spool() {
			os.Remove(l.Path)
		}
	}
}

// write puts files into the folder of an entry, each one atomically.
func (s *Store) write(name string, files map[string][]byte, stale []string) error {
	dir := filepath.Join(s.config.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var wait sync.WaitGroup
	failures := make(chan error, len(files))
	slots := make(chan struct{}, maxWriters)
	for file, data := range files {
		// Several at once: the file system then commits them together.
		slots <- struct{}{}
		wait.Go(func() {
			failures <- s.writeFile(filepath.Join(dir, file), data)
			<-slots
		})
	}
	wait.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			return err
		}
	}
	for _, file := range stale {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(dir)
}

func (s *Store) writeFile(path string, data []byte) error {
	temp, err := os.CreateTemp(filepath.Join(s.config.Dir, tempDir), "*")
	if err != nil {
		return err
	}
	if len(data) > 0 {
		_, err = temp.Write(data)
		err = cmp.Or(err, temp.Sync())
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		os.Remove(temp.Name())
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// remove drops an entry as a whole, and parent folders that are empty then.
func (s *Store) remove(name string) error {
	grave := filepath.Join(s.config.Dir, tempDir, fmt.Sprintf("evicted-%d", time.Now().UnixNano()))
	path := filepath.Join(s.config.Dir, name)
	if err := os.Rename(path, grave); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(path); dir != s.config.Dir; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // others live there
		}
	}
	return os.RemoveAll(grave)
}
