package observe

import (
	"context"
	"fmt"
	"testing"

	"countersign/gate/internal/cri"
	"countersign/gate/internal/verdict"
)

type nothing struct{}

func (nothing) Audit(context.Context, string) *verdict.Verdict   { return nil }
func (nothing) Running(context.Context) ([]cri.Container, error) { return nil, nil }

func TestWhatCannotWaitIsCountedAndFoundLater(t *testing.T) {
	missed := 0
	o := New(nothing{}, nothing{}, func() { missed++ })
	for i := range maxWaiting + 3 {
		o.Started(fmt.Sprint(i))
	}
	o.Started("0") // again: known
	if missed != 3 || len(o.waiting) != maxWaiting {
		t.Fatalf("%d missed, %d wait", missed, len(o.waiting))
	}
	<-o.waiting
	if o.Started(fmt.Sprint(maxWaiting)); len(o.waiting) != maxWaiting || missed != 3 {
		t.Errorf("what was missed is not taken later: %d missed, %d wait", missed, len(o.waiting))
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	o := New(nothing{}, nothing{}, func() { t.Error("missed") })
	for i := range maxSeen + 3 {
		o.Started(fmt.Sprint(i))
		<-o.waiting
	}
	if len(o.seen) != maxSeen || len(o.order) != maxSeen || o.seen["2"] || !o.seen["3"] {
		t.Errorf("%d and %d remembered", len(o.seen), len(o.order))
	}
}
