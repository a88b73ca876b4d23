package turns

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func taken(t *testing.T, l Lane) *Turn {
	t.Helper()
	turn, err := l.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

func full(t *testing.T, l Lane, want bool) {
	t.Helper()
	if got := len(l) == cap(l); got != want {
		t.Errorf("full is %v", got)
	}
}

func TestALaneTakesSoManyAndTheNextWaits(t *testing.T) {
	lane := make(Lane, 2)
	first := taken(t, lane)
	second := taken(t, lane)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lane.Take(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	next := make(chan *Turn)
	go func() {
		turn, _ := lane.Take(context.Background())
		next <- turn
	}()
	first.Give()
	(<-next).Give()
	second.Give()
	second.Give() // twice is once
	if len(lane) != 0 {
		t.Errorf("%d turns are left", len(lane))
	}
}

func TestWhoYieldsLetsAnotherGoFirst(t *testing.T) {
	lane := make(Lane, 1)
	turn := taken(t, lane)
	went := make(chan bool, 1)
	err := turn.Without(t.Context(), func() {
		other := taken(t, lane)
		went <- true
		other.Give()
	})
	if err != nil || len(went) != 1 {
		t.Errorf("got %v", err)
	}
	full(t, lane, true)
	turn.Give()
	full(t, lane, false)
}

func TestATurnThatIsNotHadBackIsNotGiven(t *testing.T) {
	lane := make(Lane, 1)
	turn := taken(t, lane)
	ctx, cancel := context.WithCancel(t.Context())
	var other *Turn
	err := turn.Without(ctx, func() {
		other = taken(t, lane)
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	turn.Give()
	full(t, lane, true) // the other's
	other.Give()
}

func TestAReaderHasItsTurnWhileItHasBytesAndNotWhileItWaits(t *testing.T) {
	lane := make(Lane, 1)
	turn := taken(t, lane)
	waits := iotest.ErrReader(io.EOF)
	reader := turn.Reader(t.Context(), io.MultiReader(strings.NewReader("ab"), readerFunc(func(p []byte) (int, error) {
		full(t, lane, false)
		return waits.Read(p)
	})))
	if got, err := io.ReadAll(reader); string(got) != "ab" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	full(t, lane, true)
	turn.Give()
}

func TestNoTurnBoundsNothing(t *testing.T) {
	var turn *Turn
	did := false
	if err := turn.Without(t.Context(), func() { did = true }); err != nil || !did {
		t.Errorf("got %v", err)
	}
	turn.Give()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := turn.Yield(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
