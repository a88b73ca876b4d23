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

// HoldRegistryLane takes all turns of those who judge what registries have answered, until
// the function that it returns is called.
func (j *Judge) HoldRegistryLane() (release func()) {
	for range cap(j.lanes.registry) {
		j.lanes.registry <- struct{}{}
	}
	return func() {
		for range cap(j.lanes.registry) {
			<-j.lanes.registry
		}
	}
}
