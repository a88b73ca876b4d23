// Package turns bounds how many goroutines at once do what costs processor time, so
// that those who decode what others sent, however many they are, leave the processors to
// verdicts that need none of it. Who has a turn gives way after each piece of its work, and
// while it waits for bytes: none waits for the whole of another's.
package turns

import (
	"context"
	"io"
	"runtime"
)

// Lane is what those share who are to wait for each other only.
type Lane chan struct{}

// NewLane gives a lane for as many at once as half the processors.
func NewLane() Lane { return make(Lane, max(1, runtime.NumCPU()/2)) }

// Late says that a context ended before there was a turn: nothing is wrong with what would
// have been read.
type Late struct{ Err error }

func (l *Late) Error() string { return "there was no turn: " + l.Err.Error() }

// Unwrap gives the context's error.
func (l *Late) Unwrap() error { return l.Err }

// Turn is one goroutine's. A nil one bounds nothing.
type Turn struct {
	lane Lane
	held bool
}

// Take waits for a turn; who waits longest is next. It returns a Late where the context
// ends first.
func (l Lane) Take(ctx context.Context) (*Turn, error) {
	t := &Turn{lane: l}
	return t, t.take(ctx)
}

func (t *Turn) take(ctx context.Context) error {
	if ctx.Err() != nil {
		return &Late{ctx.Err()}
	}
	select {
	case t.lane <- struct{}{}:
		t.held = true
		return nil
	case <-ctx.Done():
		return &Late{ctx.Err()}
	}
}

// Give ends the turn, if it has not ended.
func (t *Turn) Give() {
	if t != nil && t.held {
		t.held = false
		<-t.lane
	}
}

// Yield lets those who wait go first. With an error, that the context ended, so has the
// turn.
func (t *Turn) Yield(ctx context.Context) error { return t.Without(ctx, func() {}) }

// Without does what takes time and no processor while others have their turns. With an
// error, that the context ended, it is done, and the turn has ended.
func (t *Turn) Without(ctx context.Context, wait func()) error {
	if t == nil {
		wait()
		return ctx.Err()
	}
	t.Give()
	wait()
	return t.take(ctx)
}

// Reader gives r, of which each Read lets others have their turns.
func (t *Turn) Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{t, ctx, r} }

type reader struct {
	turn *Turn
	ctx  context.Context
	from io.Reader
}

func (r *reader) Read(p []byte) (n int, err error) {
	late := r.turn.Without(r.ctx, func() { n, err = r.from.Read(p) })
	if late != nil {
		return 0, late
	}
	return n, err
}
