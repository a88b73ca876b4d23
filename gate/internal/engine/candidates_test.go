package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
)

// crowd puts n manifests with the same config before the image's own, and returns that.
func (w *world) crowd(t *testing.T, n int) (own string) {
	t.Helper()
	platform := platforms.DefaultSpec()
	var siblings []ocispec.Descriptor
	for i := range n {
		m := w.node.Blob(t, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: ocispec.Descriptor{Digest: digest.Digest(w.image.Config)}, Annotations: map[string]string{"n": fmt.Sprint(i)}})
		siblings = append(siblings, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(m), Platform: &platform})
	}
	own = w.image.Manifest
	w.image.Index = ""
	w.image = w.node.InIndex(t, w.image, siblings...)
	w.named(t, tagged)
	return own
}

// silent judges nothing but the signed manifest, until the deadline.
func silent(signed string) func(context.Context, judge.Request) judge.Outcome {
	return func(ctx context.Context, r judge.Request) judge.Outcome {
		if r.Manifest == signed {
			return allowed()
		}
		<-ctx.Done()
		return unsigned()
	}
}

// A registry that is silent about a manifest of the same content keeps a signed one
// from nothing, however many there are, as long as the node has the signed one's
// evidence.
func TestASignedCandidateIsNotKeptWaitingByOthers(t *testing.T) {
	for _, others := range []int{2, 100} {
		w := newWorld(t)
		own := w.crowd(t, others)
		w.judgement, w.stored = silent(own), own
		start := time.Now()
		v := w.create(t, tagged)
		wantVerdict(t, v, code.OK)
		if v.Manifest != own || time.Since(start) >= w.Timeouts.Verdict {
			t.Errorf("%s after %s", v.Manifest, time.Since(start))
		}
	}
	// The twin: none of them is signed.
	w := newWorld(t)
	w.crowd(t, 2)
	w.judgement = silent("")
	if v := w.create(t, tagged); v.Allow {
		t.Errorf("got %s", v.Message)
	}
}

// A revoked manifest refuses also where another of the same content is allowed, and
// first.
func TestARevokedManifestBesideAnAllowedOneRefuses(t *testing.T) {
	w := newWorld(t)
	own := w.crowd(t, 1)
	w.stored = own
	w.judgement = func(ctx context.Context, r judge.Request) judge.Outcome {
		for r.Manifest == own && w.judgements() < 2 { // or the other is given up before it is asked for
			time.Sleep(time.Millisecond)
		}
		return silent(own)(ctx, r)
	}
	wantVerdict(t, w.create(t, tagged), code.OK)
	for _, revoked := range w.judged {
		if revoked.Manifest != own {
			w.doc.Digests = []string{revoked.Manifest}
		}
	}
	if len(w.doc.Digests) != 1 {
		t.Fatal("the other manifest was not judged")
	}
	w.SetPolicy(w.doc.Parse(t))
	wantVerdict(t, w.create(t, tagged), code.Revoked)
}

// When a verdict is given, nobody works on for it.
func TestNothingIsJudgedForNobody(t *testing.T) {
	w := newWorld(t)
	w.Timeouts.Verdict = 300 * time.Millisecond
	w.crowd(t, 40)
	var now, most atomic.Int32
	w.judgement = func(ctx context.Context, _ judge.Request) judge.Outcome {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-ctx.Done()
		return unsigned()
	}
	if v := w.create(t, tagged); v.Allow {
		t.Fatalf("got %s", v.Message)
	}
	for end := time.Now().Add(10 * time.Second); now.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d judgements go on", now.Load())
		}
	}
	if most.Load() > maxAtOnce {
		t.Errorf("%d judgements at once", most.Load())
	}
	// What was cut short is not an outcome for those who ask next.
	w.judgement = func(context.Context, judge.Request) judge.Outcome { return allowed() }
	w.memory.outcomes.DeleteFunc(func(r remembered) bool { return r.outcome.Code == code.Unsigned })
	wantVerdict(t, w.create(t, tagged), code.OK)
}

// What ended is not kept: refusals are what an attacker can make many of.
func TestEndedOutcomesAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.judgement = func(_ context.Context, r judge.Request) judge.Outcome {
		if r.Manifest == w.image.Manifest {
			return allowed()
		}
		return unsigned()
	}
	wantVerdict(t, w.create(t, tagged), code.OK)
	p := w.policy.Load().policy
	for i := range 50 {
		r := judge.Request{Repository: repository, Manifest: digest.FromString(fmt.Sprint(i)).String()}
		w.outcome(context.Background(), p, w.look(p, r), time.Second)
	}
	if n := w.memory.outcomes.Len(); n != 51 {
		t.Fatalf("%d outcomes", n)
	}
	for end := time.Now().Add(20 * time.Second); w.memory.outcomes.Len() != 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d outcomes are left", w.memory.outcomes.Len())
		}
	}
}
