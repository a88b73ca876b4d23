package judge_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

const repository = "registry.example/app"

// fakeRegistry answers from memory.
type fakeRegistry struct {
	sets  map[string]evidence.Set // by digest
	err   error
	asked atomic.Int32
}

func (f *fakeRegistry) Fetch(_ context.Context, repository, digest string, known []byte, _ ...string) (evidence.Set, error) {
	f.asked.Add(1)
	set := f.sets[digest]
	set.Repository, set.Digest = repository, digest
	if known != nil {
		set.Manifest = known
	}
	return set, f.err
}

func (f *fakeRegistry) Search(ctx context.Context, s evidence.Search) (found []evidence.Set, errs []error) {
	for _, set := range s.Sets {
		one, err := f.Fetch(ctx, set.Repository, set.Digest, set.Manifest, s.Types...)
		found, errs = append(found, one), append(errs, err)
	}
	if s.Enough(found) {
		clear(errs)
	}
	return found, errs
}

// scene is all that a case of judging can be about. Each test changes one thing.
type scene struct {
	key, other testsign.Key
	manifest   []byte // of the image
	index      []byte
	doc        testsign.PolicyDoc
	request    judge.Request
	store      *evidence.Store
	registry   *fakeRegistry
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{key: testsign.NewKey(t), other: testsign.NewKey(t), manifest: testsign.Manifest("image"), index: testsign.Manifest("index")}
	s.doc = testsign.PolicyDoc{
		Roots:  map[string][]testsign.Key{"team-key": {s.key}},
		Scopes: map[string]any{repository: map[string]any{"anyOf": []string{"team-key"}}},
	}
	s.request = judge.Request{Repository: repository, Manifest: testsign.Digest(s.manifest), Index: testsign.Digest(s.index),
		Config: testsign.Digest([]byte("config"))}
	store, err := evidence.Open(evidence.Config{Dir: t.TempDir() + "/evidence"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Flush)
	s.store = store
	s.registry = &fakeRegistry{sets: map[string]evidence.Set{}}
	return s
}

func (s *scene) digest() string { return s.request.Manifest }

// put gives the store attachments, bundles and envelopes for the manifest.
func (s *scene) put(t testing.TB, items ...any) { s.putFor(t, s.manifest, items...) }

func (s *scene) putFor(t testing.TB, manifest []byte, items ...any) {
	t.Helper()
	if err := s.store.Put(setOf(manifest, items...), false); err != nil {
		t.Fatal(err)
	}
}

func setOf(manifest []byte, items ...any) evidence.Set {
	set := evidence.Set{Repository: repository, Digest: testsign.Digest(manifest), Manifest: manifest}
	for _, item := range items {
		switch item := item.(type) {
		case evidence.Attachment:
			set.Attachments = append(set.Attachments, item)
		case evidence.Bundle:
			set.Bundles = append(set.Bundles, item)
		case evidence.Envelope:
			set.Envelopes = append(set.Envelopes, item)
		case *code.Refusal:
			set.Problems = append(set.Problems, item)
		}
	}
	return set
}

func (s *scene) judge(t testing.TB) judge.Outcome {
	t.Helper()
	collector := evidence.Collector{Store: s.store}
	if s.registry != nil {
		collector.Registry = s.registry
	}
	return judge.New(collector).Judge(t.Context(), s.doc.Parse(t), s.request)
}

// refused checks a refusal: its code, and what some line of it says.
func refused(t *testing.T, o judge.Outcome, want code.Code, saying string) {
	t.Helper()
	if o.Allow || o.Code != want || o.Refusal == nil || o.Refusal.Code != want {
		t.Fatalf("got %s (allow %v), want %s\n%s", o.Code, o.Allow, want, strings.Join(o.Details, "\n"))
	}
	if o.Refusal.Found == "" || o.Refusal.Expected == "" || o.Refusal.Do == "" {
		t.Errorf("the sentence lacks a part: %+v", o.Refusal)
	}
	if all := strings.Join(append(o.Details, o.Refusal.Found), "\n"); !strings.Contains(all, saying) {
		t.Errorf("nothing says %q:\n%s", saying, all)
	}
}

func allowed(t *testing.T, o judge.Outcome, want code.Code) {
	t.Helper()
	if !o.Allow || o.Code != want || o.Refusal != nil || !o.Settled {
		t.Fatalf("got %s (allow %v, settled %v), want %s\n%s", o.Code, o.Allow, o.Settled, want, strings.Join(o.Details, "\n"))
	}
}
