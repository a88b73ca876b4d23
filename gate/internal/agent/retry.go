package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// retry is how long an agent waits before it asks an API server again that did not
// answer, or ended a watch: longer each time, for there may be a thousand of them.
type retry struct {
	began time.Time
	next  time.Duration
}

const (
	firstPause = time.Second
	lastPause  = 10 * time.Second
)

// begin notes that it is asked now.
func (p *retry) begin() { p.began = time.Now() }

// wait waits. What had lasted was no failure.
func (p *retry) wait(ctx context.Context) {
	if p.next == 0 || time.Since(p.began) > lastPause+asking {
		p.next = firstPause
	}
	pause(ctx, about(p.next))
	p.next = min(2*p.next, lastPause)
}

// about gives a time between half and one and a half of so long: the agents of a cluster
// see the same at the same moment, and are not to ask about it at the same moment.
func about(so time.Duration) time.Duration { return so/2 + rand.N(so) }

func pause(ctx context.Context, so time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(so):
	}
}
