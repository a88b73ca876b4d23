package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/verdict"
)

// binding is a Binder whose containers have the images of a test.
type binding struct {
	Binder
	images []bind.Image
}

func (b *binding) Container(context.Context, *bind.State, *verdict.Trace) (*bind.Bound, error) {
	return &bind.Bound{Images: b.images}, nil
}

// shared makes the container's image one that goes by its own name behind n others of
// a scope.
func (w *world) shared(scope string, n int) *binding {
	candidates := []bind.Candidate{{Manifest: w.image.Manifest, Config: w.image.Config}}
	b := &binding{Binder: w.Binder}
	for i := range n {
		name := fmt.Sprintf("%s/a%d", scope, i)
		b.images = append(b.images, bind.Image{Name: name, Repository: name, Candidates: candidates})
	}
	b.images = append(b.images, bind.Image{Name: tagged, Repository: repository, Candidates: candidates})
	w.Binder = b
	return b
}

// Every repository of an image named by its ID has to allow it, however many names of
// a scope that accepts everything stand before.
func TestOtherNamesNeitherRefuseNorAllow(t *testing.T) {
	for _, test := range []struct {
		name      string
		scope     string
		judgement judge.Outcome
		want      code.Code
	}{
		{"accepted names beside a signed one", "registry.example/lax", allowed(), code.AcceptedByScope},
		{"accepted names beside an unsigned one", "registry.example/lax", unsigned(), code.Unsigned},
		{"rejected names beside a signed one", "registry.example/forbidden", allowed(), code.RejectedByScope},
		{"names in no scope beside a signed one", "evil.example", allowed(), code.NoScope},
		{"signed names beside a signed one", "registry.example/other", allowed(), code.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.shared(test.scope, 300)
			w.judgement = func(context.Context, judge.Request) judge.Outcome { return test.judgement }
			wantVerdict(t, w.create(t, tagged), test.want)
		})
	}
}

func TestNamesThatThePolicyDecidesAreJudgedOnceAScope(t *testing.T) {
	w := newWorld(t)
	b := w.shared("registry.example/lax", 300)
	if left := distinct(w.policy.Load().policy, b.images); len(left) != 2 || left[1].Repository != repository {
		t.Errorf("%d are judged", len(left))
	}
	b = w.shared("registry.example/other", 300) // where signatures count, each repository does
	if left := distinct(w.policy.Load().policy, b.images); len(left) != 301 {
		t.Errorf("%d are judged", len(left))
	}
	for i := range b.images { // and each image volume is an image of its own
		b.images[i].Repository, b.images[i].Volume = "registry.example/lax", fmt.Sprint("/", i)
	}
	if left := distinct(w.policy.Load().policy, b.images); len(left) != 301 {
		t.Errorf("%d are judged", len(left))
	}
}

// What is beyond a bound of a record allows nothing, and refuses where it is revoked.
func TestARevokedDigestBeyondABoundRefuses(t *testing.T) {
	w := newWorld(t)
	b := w.shared("", 0)
	b.images[0].Beside = []string{digest.FromString("other").String(), digest.FromString("revoked").String()}
	wantVerdict(t, w.create(t, tagged), code.OK)
	w.doc.Digests = []string{digest.FromString("revoked").String()}
	w.SetPolicy(w.doc.Parse(t))
	v := w.create(t, tagged)
	wantVerdict(t, v, code.Revoked)
	if v.Manifest != w.doc.Digests[0] {
		t.Errorf("told of %s", v.Manifest)
	}
}
