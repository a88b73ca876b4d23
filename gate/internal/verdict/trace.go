package verdict

import (
	"sync"
	"time"
)

// Trace collects the steps behind a verdict where a person asked for them. A nil
// Trace records nothing; one Trace may be used by several goroutines.
type Trace struct {
	mu    sync.Mutex
	steps []Step
}

// Begin starts a step; the function it returns ends it with its outcome. A step
// with an error is not OK, and the error is its outcome.
func (t *Trace) Begin(name string) func(outcome string, err error) {
	if t == nil {
		return func(string, error) {}
	}
	start := time.Now()
	return func(outcome string, err error) {
		if err != nil {
			outcome = err.Error()
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.steps = append(t.steps, Step{Name: name, Outcome: outcome, OK: err == nil, Millis: Millis(time.Since(start))})
	}
}

// Steps returns what was recorded, in the order in which the steps ended.
func (t *Trace) Steps() []Step {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Step(nil), t.steps...)
}

// Millis gives a duration in milliseconds, to the microsecond.
func Millis(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
