package evidence

import (
	"context"
	"errors"
	"testing"

	"countersign/gate/internal/code"
)

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

type fetcher struct {
	set Set
	err error
}

func (f fetcher) Fetch(context.Context, string, string, []byte, ...string) (Set, error) {
	return f.set, f.err
}

func (f fetcher) Search(context.Context, Search) ([]Set, []error) {
	return []Set{f.set}, []error{f.err}
}

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
