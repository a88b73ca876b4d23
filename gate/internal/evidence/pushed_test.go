package evidence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// drop pushes a set as others do: files alone.
func drop(t *testing.T, s *Store, set Set) {
	t.Helper()
	dir := entryDir(s, set.Digest)
	for i, a := range set.Attachments {
		writeFile(t, filepath.Join(dir, signatureName(i+1)), string(a.blob()))
	}
	for _, b := range set.Bundles {
		writeFile(t, filepath.Join(dir, bundleName(b)), string(b.JSON))
	}
}

func TestWhatWasMerelySeenDrivesOutNothingThatWasPushed(t *testing.T) {
	for _, test := range []struct {
		name string
		add  func(*testing.T, *Store)
		kept bool
	}{
		{"pushed", func(t *testing.T, s *Store) { drop(t, s, small(0)) }, true},
		{"pushed, then seen too", func(t *testing.T, s *Store) {
			drop(t, s, small(0))
			put(t, s, Set{Repository: repo, Digest: digestOf(0), Bundles: []Bundle{bundle("seen")}}, false)
		}, true},
		{"seen, then pushed too", func(t *testing.T, s *Store) {
			put(t, s, small(0), false)
			time.Sleep(20 * time.Millisecond) // a file system's clock is coarse
			drop(t, s, Set{Digest: digestOf(0), Bundles: []Bundle{bundle("pushed")}})
		}, true},
		{"proven", func(t *testing.T, s *Store) { put(t, s, small(0), true) }, true},
		{"seen, then proven", func(t *testing.T, s *Store) {
			put(t, s, small(0), false)
			put(t, s, Set{Repository: repo, Digest: digestOf(0), Bundles: []Bundle{bundle("more")}}, true)
		}, true},
		{"seen", func(t *testing.T, s *Store) { put(t, s, small(0), false) }, false},
		{"seen twice", func(t *testing.T, s *Store) {
			put(t, s, small(0), false)
			put(t, s, Set{Repository: repo, Digest: digestOf(0), Bundles: []Bundle{bundle("more")}}, false)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, Config{MaxEntries: 1})
			test.add(t, s)
			if err := s.scan(); err != nil { // which happens once a minute
				t.Fatal(err)
			}
			if err := s.Put(small(1), false); errors.Is(err, ErrFull) != test.kept || err != nil && !test.kept {
				t.Errorf("got %v", err)
			}
			if kept := !get(t, s, digestOf(0)).Empty(); kept != test.kept {
				t.Errorf("still there: %v", kept)
			}
		})
	}
}

func TestWhatSatisfiedARuleStaysAmongWhatTheRegistryHas(t *testing.T) {
	s := open(t, Config{})
	stored := Set{Repository: repo, Digest: digest, Bundles: []Bundle{bundle("in the store")}}
	put(t, s, stored, true)
	fetched := Set{Repository: repo, Digest: digest}
	for i := range 63 {
		fetched.Bundles = append(fetched.Bundles, bundle(fmt.Sprint("junk", i)))
	}
	fetched.Bundles = append(fetched.Bundles, bundle("in the registry"))
	put(t, s, fetched.Merge(stored), true)
	found := map[string]bool{}
	got := get(t, s, digest)
	for _, b := range got.Bundles {
		found[string(b.JSON)] = true
	}
	if !found["in the store"] || !found["in the registry"] || len(got.Problems) != 0 {
		t.Errorf("of %d bundles, the stored one %v, the fetched one %v, %v", len(got.Bundles), found["in the store"], found["in the registry"], got.Problems)
	}
}

func TestPendingEvidenceIsBoundedInBytes(t *testing.T) {
	var p pending
	big := Set{Bundles: []Bundle{{JSON: make([]byte, maxPendingBytes/2)}}}
	first, second, third := big, big, big
	if !p.add("a", &first) || !p.add("b", &second) || p.add("c", &third) {
		t.Errorf("%d bytes are pending", p.bytes)
	}
	p.drop("a", &first)
	if !p.add("c", &third) {
		t.Error("no room after one was written")
	}
}

func TestAnEntryOfManyFilesTakesFewThreads(t *testing.T) {
	s := open(t, Config{})
	set := Set{Repository: repo, Digest: digest}
	for i := range maxPerKind {
		set.Bundles = append(set.Bundles, bundle(fmt.Sprint(i)))
		set.Attachments = append(set.Attachments, attachment(fmt.Sprint(i)))
	}
	before := threads(t)
	put(t, s, set, true)
	if more := threads(t) - before; more > 64 {
		t.Errorf("%d threads more", more)
	}
}

// threads counts the threads of this process, of which Go ends none.
func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	return len(tasks)
}
