package evidence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
)

const repo = "registry.example/team/app"

var (
	manifest = []byte(`{"schemaVersion":2}`)
	digest   = "sha256:" + sum(manifest)
)

func digestOf(i int) string { return "sha256:" + sum(fmt.Append(nil, i)) }

func open(t testing.TB, config Config) *Store {
	t.Helper()
	if config.Dir == "" {
		config.Dir = filepath.Join(t.TempDir(), "evidence")
	}
	s, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Flush)
	return s
}

func attachment(text string) Attachment {
	return Attachment{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Payload: []byte(text), Annotations: map[string]string{"a": "b"}}
}

func bundle(text string) Bundle { return Bundle{JSON: []byte(text)} }

func full() Set {
	return Set{Repository: repo, Digest: digest, Manifest: manifest,
		Attachments: []Attachment{attachment("one"), attachment("two")}, Bundles: []Bundle{bundle("{}")}}
}

func put(t testing.TB, s *Store, set Set, proven bool) {
	t.Helper()
	if err := s.Put(set, proven); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s *Store, digest string) Set {
	t.Helper()
	set, err := s.Get(repo, digest)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func entryDir(s *Store, digest string) string {
	return filepath.Join(s.config.Dir, repo+"@"+strings.Replace(digest, ":", "=", 1))
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasPutIsGot(t *testing.T) {
	s := open(t, Config{})
	put(t, s, full(), false)
	got := get(t, s, digest)
	if string(got.Manifest) != string(manifest) || len(got.Attachments) != 2 || len(got.Bundles) != 1 || len(got.Problems) != 0 {
		t.Errorf("got %+v", got)
	}
	if HashOf(got) != HashOf(full()) {
		t.Error("the hash of what was got is another")
	}
	if other, err := s.Get("registry.example/team/other", digest); err != nil || !other.Empty() {
		t.Errorf("another repository has %+v, %v", other, err)
	}
	if missing := get(t, s, digestOf(1)); !missing.Empty() || len(missing.Problems) != 0 {
		t.Errorf("another digest has %+v", missing)
	}
}

func TestPutAddsAndKeeps(t *testing.T) {
	s := open(t, Config{})
	put(t, s, full(), false)
	before := HashOf(get(t, s, digest))
	put(t, s, Set{Repository: repo, Digest: digest, Attachments: []Attachment{attachment("two"), attachment("three")}}, true)
	got := get(t, s, digest)
	if len(got.Attachments) != 3 || len(got.Bundles) != 1 || got.Manifest == nil || !got.proven {
		t.Errorf("got %+v", got)
	}
	if HashOf(got) == before {
		t.Error("the hash is the same with one signature more")
	}
}

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

func TestWhatLiesThereIsChecked(t *testing.T) {
	tests := []struct {
		name, file, text string
		want             code.Code
	}{
		{"another manifest", manifestFile, "{}", code.Tampered},
		{"a bundle under another name", bundleName(bundle("{}")), "{ }", code.Tampered},
		{"an unreadable signature", signatureName(1), "junk", code.Malformed},
		{"a signature of another format", signatureName(1), "\x00simple-signing\nx", code.Malformed},
		{"a signature that is no JSON", signatureName(1), blobPrefix + "x", code.Malformed},
		{"a bundle over the bound", bundleName(bundle("{}")), strings.Repeat(" ", maxBundle+1), code.Malformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, Config{})
			put(t, s, full(), false)
			writeFile(t, filepath.Join(entryDir(s, digest), test.file), test.text)
			got := get(t, s, digest)
			if len(got.Problems) != 1 || got.Problems[0].Code != test.want {
				t.Fatalf("problems %v", got.Problems)
			}
			if n := len(got.Attachments) + len(got.Bundles); n < 2 {
				t.Errorf("only %d of the good ones are left", n)
			}
			put(t, s, full(), false)
			if again := get(t, s, digest); HashOf(again) != HashOf(full()) {
				t.Errorf("not mended by another Put: %+v", again)
			}
		})
	}
}

func TestWhatIsPutLaterIsSeenAtOnce(t *testing.T) {
	s := open(t, Config{})
	unlock, err := s.lock() // so that nothing can be written yet
	if err != nil {
		t.Fatal(err)
	}
	s.PutLater(full(), true)
	if got := get(t, s, digest); HashOf(got) != HashOf(full()) || got.Manifest == nil || got.dir != "" {
		t.Errorf("before it is written: %+v", got)
	}
	unlock()
	s.Flush()
	if got := get(t, s, digest); HashOf(got) != HashOf(full()) || got.dir == "" || !got.proven {
		t.Errorf("after it was written: %+v", got)
	}
	if len(s.pending.sets) != 0 || s.pending.count != 0 {
		t.Errorf("still pending: %v", s.pending.sets)
	}
}

func TestManyPutLater(t *testing.T) {
	s := open(t, Config{})
	for i := range 3 * maxPending {
		s.PutLater(small(i), false)
		if get(t, s, digestOf(i)).Empty() {
			t.Errorf("%d is not there", i)
		}
	}
	s.Flush()
	if _, entries := s.Usage(); entries != 3*maxPending {
		t.Errorf("%d entries", entries)
	}
}

func TestWhatCannotBeWrittenIsGone(t *testing.T) {
	s := open(t, Config{MaxBytes: 10})
	s.PutLater(full(), true)
	s.Flush()
	if got := get(t, s, digest); !got.Empty() {
		t.Errorf("got %+v", got)
	}
}

func TestEvidenceMayBeDroppedIntoTheStore(t *testing.T) {
	s := open(t, Config{})
	dir := entryDir(s, digest)
	writeFile(t, filepath.Join(dir, manifestFile), string(manifest))
	writeFile(t, filepath.Join(dir, signatureName(1)), string(attachment("one").blob()))
	writeFile(t, filepath.Join(dir, signatureName(7)), string(attachment("two").blob()))
	writeFile(t, filepath.Join(dir, bundleName(bundle("{}"))), "{}")
	writeFile(t, filepath.Join(dir, "notes.txt"), "")
	if got := get(t, s, digest); HashOf(got) != HashOf(full()) || len(got.Problems) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestDirIsWhatContainersImageReads(t *testing.T) {
	s := open(t, Config{})
	put(t, s, full(), false)
	set := get(t, s, digest)
	if dir, done, err := set.Dir(); err != nil || dir != entryDir(s, digest) || done() != nil {
		t.Errorf("the entry itself would do: %s, %v", dir, err)
	}
	writeFile(t, filepath.Join(entryDir(s, digest), signatureName(1)), "junk")
	set = get(t, s, digest)
	dir, done, err := set.Dir()
	if err != nil || dir == entryDir(s, digest) {
		t.Fatalf("an unreadable signature hides the others: %s, %v", dir, err)
	}
	for name, want := range map[string]string{manifestFile: string(manifest), versionFile: dirVersion, signatureName(1): string(attachment("two").blob())} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy is still there: %v", err)
	}
}

func TestAnEntryIsBounded(t *testing.T) {
	s := open(t, Config{})
	var many Set
	for i := range maxPerKind + 10 {
		many.Attachments = append(many.Attachments, attachment(fmt.Sprint("junk", i)))
		many.Bundles = append(many.Bundles, bundle(fmt.Sprint("junk", i)))
	}
	many.Repository, many.Digest = repo, digest
	put(t, s, many, false)
	if got := get(t, s, digest); len(got.Attachments) != maxPerKind || len(got.Bundles) != maxPerKind || len(got.Problems) != 0 {
		t.Errorf("%d attachments, %d bundles, %v", len(got.Attachments), len(got.Bundles), got.Problems)
	}
	put(t, s, full(), true)
	got := get(t, s, digest)
	if len(got.Attachments) != maxPerKind || len(got.Bundles) != maxPerKind || len(got.Problems) != 0 {
		t.Errorf("%d attachments, %d bundles, %v", len(got.Attachments), len(got.Bundles), got.Problems)
	}
	if !slices.ContainsFunc(got.Bundles, func(b Bundle) bool { return string(b.JSON) == "{}" }) || string(got.Attachments[0].Payload) != "one" {
		t.Error("what is proven had no room among junk")
	}
}

func TestTooManyDroppedFilesAreMalformed(t *testing.T) {
	s := open(t, Config{})
	for i := range maxPerKind + 1 {
		writeFile(t, filepath.Join(entryDir(s, digest), signatureName(i+1)), string(attachment(fmt.Sprint(i)).blob()))
	}
	got := get(t, s, digest)
	if len(got.Attachments) != maxPerKind || len(got.Problems) != 1 || got.Problems[0].Code != code.Malformed {
		t.Errorf("%d attachments, problems %v", len(got.Attachments), got.Problems)
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

type fetcher struct {
	set Set
	err error
}

func (f fetcher) Fetch(context.Context, string, string, []byte) (Set, error) { return f.set, f.err }

func TestCollect(t *testing.T) {
	failure := code.Refuse(code.RegistryError, "500", "", "")
	tests := []struct {
		name     string
		stored   bool
		registry Fetcher
		source   Source
		empty    bool
		err      error
	}{
		{"from the store", true, fetcher{err: failure}, FromStore, false, nil},
		{"from the registry", false, fetcher{set: full()}, FromRegistry, false, nil},
		{"from neither", false, fetcher{}, FromRegistry, true, nil},
		{"from a broken registry", false, fetcher{err: failure}, FromRegistry, true, failure},
		{"from half a registry", false, fetcher{full(), failure}, FromRegistry, false, failure},
		{"without a registry", false, nil, FromStore, true, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := Collector{Store: open(t, Config{}), Registry: test.registry}
			if test.stored {
				put(t, c.Store, full(), false)
			}
			set, source, err := c.Collect(t.Context(), repo, digest)
			if source != test.source || set.Empty() != test.empty || !errors.Is(err, test.err) {
				t.Errorf("got %+v from %s, %v", set, source, err)
			}
			c.Store.Flush()
			if got := get(t, open(t, Config{Dir: c.Store.config.Dir}), digest); got.Empty() != test.empty {
				t.Errorf("the store has %+v", got)
			}
		})
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

func FuzzParseBlob(f *testing.F) {
	f.Add(attachment("x").blob())
	f.Add([]byte(blobPrefix + `{"mimeType":"","payload":"","annotations":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseBlob(data)
		if err != nil {
			return
		}
		if again, err := parseBlob(a.blob()); err != nil || again.ID() != a.ID() {
			t.Errorf("%q does not come back: %v", data, err)
		}
	})
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
