package judge

import (
	"testing"
	"time"
)

// SetClock has certificates judged as if it were that time, for one test.
func SetClock(t *testing.T, at time.Time) {
	t.Helper()
	now = func() time.Time { return at }
	t.Cleanup(func() { now = time.Now })
}
