package engine

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/judge"
)

func TestTheStoreIsReadOnceForAJudgement(t *testing.T) {
	w := newWorld(t)
	wantVerdict(t, w.create(t, tagged), code.OK)
	if w.reads != 1 || len(w.judged[0].Stored) != 2 {
		t.Errorf("%d reads, and %d sets to judge by; expected 1 read of 2", w.reads, len(w.judged[0].Stored))
	}
}

func TestOutcomeIsRemembered(t *testing.T) {
	w := newWorld(t)
	for i, source := range []string{"store", "memory", "memory"} {
		v := w.create(t, tagged)
		wantVerdict(t, v, code.OK)
		if v.Source != source {
			t.Errorf("round %d: from %q, expected %q", i, v.Source, source)
		}
	}
	if w.judgements() != 1 || w.verifications != 1 {
		t.Errorf("%d judgements, %d verifications, expected one each", w.judgements(), w.verifications)
	}
}

func TestBindingIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	wantVerdict(t, w.create(t, tagged), code.OK)
	w.node.Images[tagged] = w.node.Image(t, "new", "new").Target()
	wantVerdict(t, w.create(t, tagged), code.NotWhatRuns)
}

func TestOutcomeIsRememberedForNothingElse(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, w *world) (image string)
	}{
		{"another repository of the same rule and digests", func(t *testing.T, w *world) string {
			w.named(t, "registry.example/other:v1")
			return "registry.example/other:v1"
		}},
		{"another repository of the same scope", func(t *testing.T, w *world) string {
			w.named(t, repository+"/sub:v1")
			return repository + "/sub:v1"
		}},
		{"another digest", func(t *testing.T, w *world) string {
			w.image = w.node.Image(t, "layer", "other config")
			w.named(t, tagged)
			return tagged
		}},
		{"another policy", func(t *testing.T, w *world) string {
			w.doc.Scopes["registry.example/new"] = map[string]any{"accept": true}
			w.SetPolicy(w.doc.Parse(t))
			return tagged
		}},
		{"other evidence", func(_ *testing.T, w *world) string {
			w.hash = "sha256:more"
			return tagged
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			wantVerdict(t, w.create(t, tagged), code.OK)
			image := test.change(t, w)
			w.judgement = func(context.Context, judge.Request) judge.Outcome { return unsigned() }
			wantVerdict(t, w.create(t, image), code.Unsigned)
		})
	}
}

func TestAbsenceIsRememberedForASecond(t *testing.T) {
	w := newWorld(t)
	w.judgement = func(context.Context, judge.Request) judge.Outcome { return unsigned() }
	wantVerdict(t, w.create(t, tagged), code.Unsigned)
	w.judgement = func(context.Context, judge.Request) judge.Outcome { return allowed() }
	wantVerdict(t, w.create(t, tagged), code.Unsigned)
	time.Sleep(unsettled + 20*time.Millisecond)
	wantVerdict(t, w.create(t, tagged), code.OK)
}

func TestOutcomeEndsWithWhatItRestsOn(t *testing.T) {
	w := newWorld(t)
	w.judgement = func(context.Context, judge.Request) judge.Outcome {
		o := allowed()
		o.Expires = time.Now().Add(100 * time.Millisecond)
		return o
	}
	wantVerdict(t, w.create(t, tagged), code.OK)
	w.judgement = func(context.Context, judge.Request) judge.Outcome { return unsigned() }
	wantVerdict(t, w.create(t, tagged), code.OK)
	time.Sleep(120 * time.Millisecond)
	wantVerdict(t, w.create(t, tagged), code.Unsigned)
}

func TestEvidenceThatJudgingBroughtIsKnownNextTime(t *testing.T) {
	w := newWorld(t)
	w.hash = "sha256:none yet"
	w.judgement = func(context.Context, judge.Request) judge.Outcome {
		w.hash = "sha256:fetched"
		o := allowed()
		o.EvidenceHash, o.Source = "sha256:fetched", "registry"
		return o
	}
	wantVerdict(t, w.create(t, tagged), code.OK)
	if v := w.create(t, tagged); v.Source != "memory" || w.judgements() != 1 {
		t.Errorf("from %q, %d judgements", v.Source, w.judgements())
	}
}

func TestUnreadableStoreIsAskedAgainSoon(t *testing.T) {
	w := newWorld(t)
	w.hash = ""
	w.judgement = func(context.Context, judge.Request) judge.Outcome {
		o := unsigned()
		o.StoreError = errors.New("disk on fire")
		return o
	}
	wantVerdict(t, w.create(t, tagged), code.Unsigned)
	time.Sleep(unsettled + 20*time.Millisecond)
	w.judgement = func(context.Context, judge.Request) judge.Outcome { return allowed() }
	wantVerdict(t, w.create(t, tagged), code.OK)
}

func TestEqualRequestsAreJoined(t *testing.T) {
	w := newWorld(t)
	w.judgement = func(context.Context, judge.Request) judge.Outcome {
		time.Sleep(200 * time.Millisecond)
		return allowed()
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if v := w.Create(context.Background(), fakecontainerd.State(t, container, tagged)); !v.Allow {
				t.Errorf("got %s", v.Message)
			}
		})
	}
	group.Wait()
	if w.judgements() != 1 || w.verifications != 1 || len(w.verdicts) != 50 {
		t.Errorf("%d judgements, %d verifications, %d verdicts", w.judgements(), w.verifications, len(w.verdicts))
	}
}

// waiting returns once so many wait for the one judgement in flight.
func (w *world) waiting(t *testing.T, n int) {
	t.Helper()
	count := func() (waiting int) {
		w.memory.mu.Lock()
		defer w.memory.mu.Unlock()
		for _, f := range w.memory.flights {
			waiting += f.waiting
		}
		return waiting
	}
	for deadline := time.Now().Add(10 * time.Second); count() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, expected %d", count(), n)
		}
	}
}

func TestCancellationIsNotInherited(t *testing.T) {
	w := newWorld(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	w.judgement = func(ctx context.Context, _ judge.Request) judge.Outcome {
		close(begun)
		<-finish
		if ctx.Err() != nil {
			return unsigned()
		}
		return allowed()
	}
	first, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if v := w.Create(first, fakecontainerd.State(t, container, tagged)); v.Code != code.Timeout || v.Allow {
			t.Errorf("the first got %s", v.Message)
		}
	})
	<-begun
	group.Go(func() {
		if v := w.Create(context.Background(), fakecontainerd.State(t, container, tagged)); v.Code != code.OK {
			t.Errorf("the second got %s", v.Message)
		}
	})
	w.waiting(t, 2)
	cancel()
	w.waiting(t, 1)
	close(finish)
	group.Wait()
	if w.judgements() != 1 {
		t.Errorf("%d judgements", w.judgements())
	}
}

func TestJudgementHasADeadlineOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.Timeouts.Verdict = 200 * time.Millisecond
	w.judgement = func(ctx context.Context, _ judge.Request) judge.Outcome {
		<-ctx.Done()
		return unsigned()
	}
	start := time.Now()
	v := w.create(t, tagged)
	if v.Allow || time.Since(start) > time.Second {
		t.Errorf("got %s after %s", v.Message, time.Since(start))
	}
}
