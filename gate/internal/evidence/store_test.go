package evidence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	manifest = []byte(`{"schemaVersion":2}`)
	digest   = "sha256:" + sum(manifest)
)

func TestFilesAndFoldersArePrivate(t *testing.T) {
	s := open(t, Config{})
	put(t, s, full(), true)
	err := filepath.WalkDir(s.config.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenMakesALaxFolderPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Dir: dir})
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestOpenRefusesWhatIsNoFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	writeFile(t, path, "")
	if _, err := Open(Config{Dir: path}); err == nil {
		t.Error("a file was opened as a store")
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	s := open(t, Config{})
	for _, test := range []struct{ repository, digest string }{
		{"../../etc", digest}, {"registry.example/../../etc", digest}, {"/etc/x", digest}, {"", digest},
		{repo, "sha256:../../x"}, {repo, ""}, {repo, "sha512:" + strings.Repeat("a", 128)}, {repo + "@sha256=x/y", digest},
	} {
		if _, err := s.Get(test.repository, test.digest); err == nil {
			t.Errorf("Get(%q, %q) was answered", test.repository, test.digest)
		}
		if err := s.Put(Set{Repository: test.repository, Digest: test.digest, Bundles: []Bundle{bundle("x")}}, false); err == nil {
			t.Errorf("Put(%q, %q) was done", test.repository, test.digest)
		}
	}
}

// A repository may be called like the digest of another one's entry.
func TestEntriesDoNotNest(t *testing.T) {
	s := open(t, Config{})
	nested := Set{Repository: repo + "/sha256-" + strings.Repeat("a", 64), Digest: digest, Bundles: []Bundle{bundle("nested")}}
	put(t, s, full(), false)
	put(t, s, nested, false)
	name, err := entryName(repo, digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.remove(name); err != nil {
		t.Fatal(err)
	}
	if set, err := s.Get(nested.Repository, digest); err != nil || len(set.Bundles) != 1 {
		t.Errorf("removing one entry took another: %+v, %v", set, err)
	}
}

func small(i int) Set {
	return Set{Repository: repo, Digest: digestOf(i), Bundles: []Bundle{bundle(fmt.Sprint(i))}}
}

// age makes an entry look last used so long ago.
func age(t *testing.T, s *Store, digest string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	files, err := filepath.Glob(entryDir(s, digest) + "/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.scan(); err != nil {
		t.Fatal(err)
	}
}

func TestAFullStoreMakesRoom(t *testing.T) {
	const never, day = -1, 24 * time.Hour
	type entry struct {
		proven bool
		age    time.Duration
	}
	tests := []struct {
		name    string
		entries []entry
		proven  bool
		evicts  int // index, or never: ErrFull
	}{
		{"the oldest that proved nothing goes first", []entry{{false, time.Hour}, {false, 2 * time.Hour}, {true, 9 * day}}, true, 1},
		{"the longest unread that is proven goes then", []entry{{true, 2 * day}, {true, 3 * day}, {true, day + time.Hour}}, true, 1},
		{"what was used within a day stays", []entry{{true, time.Hour}, {true, 2 * time.Hour}, {true, 23 * time.Hour}}, true, never},
		{"what proved nothing drives out nothing proven", []entry{{true, 9 * day}, {true, 9 * day}, {true, 9 * day}}, false, never},
		{"what proved nothing drives out its like", []entry{{true, 9 * day}, {false, time.Minute}, {true, 9 * day}}, false, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var evicted []string
			s := open(t, Config{MaxEntries: len(test.entries), Evicted: func(_, digest string) { evicted = append(evicted, digest) }})
			for i, e := range test.entries {
				put(t, s, small(i), e.proven)
				age(t, s, digestOf(i), e.age)
			}
			err := s.Put(small(99), test.proven)
			if test.evicts == never {
				if !errors.Is(err, ErrFull) || len(evicted) != 0 || !get(t, s, digestOf(99)).Empty() {
					t.Errorf("got %v, evicted %v", err, evicted)
				}
				return
			}
			if err != nil || !slices.Equal(evicted, []string{digestOf(test.evicts)}) || !get(t, s, digestOf(test.evicts)).Empty() {
				t.Errorf("got %v, evicted %v", err, evicted)
			}
			if _, entries := s.Usage(); entries != len(test.entries) {
				t.Errorf("%d entries", entries)
			}
		})
	}
}

func TestBytesAreBounded(t *testing.T) {
	s := open(t, Config{MaxBytes: 1000})
	big := func(i int) Set {
		return Set{Repository: repo, Digest: digestOf(i), Bundles: []Bundle{bundle(strings.Repeat(fmt.Sprint(i), 400))}}
	}
	for i := range 5 {
		put(t, s, big(i), false)
		if bytes, entries := s.Usage(); bytes > 1000 || entries > 2 {
			t.Errorf("%d bytes in %d entries", bytes, entries)
		}
	}
	if get(t, s, digestOf(4)).Empty() {
		t.Error("the newest is not there")
	}
	if err := s.Put(Set{Repository: repo, Digest: digestOf(9), Bundles: []Bundle{bundle(strings.Repeat("x", 1001))}}, true); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
}

func TestReadingKeepsAProvenEntry(t *testing.T) {
	s := open(t, Config{})
	put(t, s, small(1), true)
	age(t, s, digestOf(1), 48*time.Hour)
	get(t, s, digestOf(1))
	if u, err := s.measure(repo + "@" + strings.Replace(digestOf(1), ":", "=", 1)); err != nil || time.Since(u.used) > time.Minute {
		t.Errorf("last used %v ago, %v", time.Since(u.used), err)
	}
}

func TestMarkProven(t *testing.T) {
	s := open(t, Config{})
	put(t, s, small(1), false)
	if err := s.MarkProven(get(t, s, digestOf(1))); err != nil {
		t.Fatal(err)
	}
	if !get(t, s, digestOf(1)).proven {
		t.Error("not marked")
	}
	if err := s.MarkProven(small(2)); err != nil || !get(t, s, digestOf(2)).Empty() {
		t.Errorf("an entry that is gone: %v", err)
	}
}

func TestStoresShareAFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "evidence")
	stores := []*Store{open(t, Config{Dir: dir, MaxEntries: 8}), open(t, Config{Dir: dir, MaxEntries: 8})}
	var wait sync.WaitGroup
	for i := range 40 {
		wait.Go(func() {
			if err := stores[i%2].Put(small(i), false); err != nil {
				t.Error(err)
			}
			if _, err := stores[(i+1)%2].Get(repo, digestOf(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if err := stores[0].scan(); err != nil {
		t.Fatal(err)
	}
	if _, entries := stores[0].Usage(); entries != 8 {
		t.Errorf("%d entries", entries)
	}
	if left, err := os.ReadDir(filepath.Join(dir, tempDir)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAStoppedWriterDoesNotStopOthers(t *testing.T) {
	s := open(t, Config{})
	other := open(t, Config{Dir: s.config.Dir})
	unlock, err := other.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	start := time.Now()
	if err := s.Put(full(), true); err == nil || time.Since(start) > 5*lockWait {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if got := get(t, s, digest); !got.Empty() {
		t.Errorf("got %+v", got)
	}
}

func TestStaleTemporaryFilesAreCleared(t *testing.T) {
	s := open(t, Config{})
	old, fresh := filepath.Join(s.config.Dir, tempDir, "old"), filepath.Join(s.config.Dir, tempDir, "fresh")
	writeFile(t, old, "")
	writeFile(t, fresh, "")
	then := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Dir: s.config.Dir})
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("the old one is still there")
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error("the fresh one may be in use, and is gone")
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, Config{})
	i := 0
	for b.Loop() {
		i++
		set := full()
		set.Digest = digestOf(i)
		if err := s.Put(set, true); err != nil {
			b.Fatal(err)
		}
	}
}
