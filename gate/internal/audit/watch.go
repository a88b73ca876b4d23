package audit

import (
	"context"
	"log/slog"
	"time"
)

// soon is when a daemon audits first: what it is asked at its own start goes before.
const soon = time.Minute

// Watch judges what runs soon, and then every so often, until the context ends. judge is
// asked for anew each time, for it goes by the policy of that moment. Nothing is stopped.
// Verdicts are logged by whoever the judge tells; report gets the whole.
func Watch(ctx context.Context, every time.Duration, runtime Runtime, judge func() Judge, report func(*Report)) {
	for wait := min(soon, every); ; wait = every {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		found, err := Run(ctx, runtime, judge(), false)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			slog.Error("audit: not known what runs", "error", err)
			continue
		case found.Refused > 0:
			slog.Warn("audit: what runs would be REFUSED now", "refused", found.Refused, "of", len(found.Containers)+len(found.Sandboxes), "policy", found.Policy)
		default:
			slog.Info("audit: nothing that runs would be refused", "containers", len(found.Containers), "sandboxes", len(found.Sandboxes), "policy", found.Policy)
		}
		report(found)
	}
}
