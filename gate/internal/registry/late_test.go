package registry

import (
	"context"
	"io"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

// That the gate itself had no time to read what a registry answered is not that registry's
// absence.
func TestAnAnswerThatWaitsInTheGateIsNotCalledUnreachable(t *testing.T) {
	body := strings.Repeat("x", smallAnswer+1)
	for name, full := range map[string]bool{"no room": true, "room": false} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			if full {
				if err := reading.Acquire(ctx, maxReading); err != nil {
					t.Fatal(err)
				}
				defer reading.Release(maxReading)
				cancel()
			}
			defer cancel()
			got, err := readWhole(ctx, io.NopCloser(strings.NewReader(body)), int64(len(body)))
			if !full {
				if string(got) != body || err != nil {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
				return
			}
			if refusal := classify("registry.example", err); refusal.Code != code.Timeout || !strings.Contains(refusal.Found, "not read in time") {
				t.Errorf("got %v", refusal)
			}
		})
	}
	if refusal := classify("registry.example", context.DeadlineExceeded); refusal.Code != code.NoEvidenceOffline {
		t.Errorf("got %v", refusal)
	}
}
