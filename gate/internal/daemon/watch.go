package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"countersign/gate/internal/policy"
)

const (
	// settle is how long a folder must be quiet before the policy is read.
	settle = 30 * time.Millisecond
	// poll catches what no notification told, as when the folder itself was replaced.
	poll = 5 * time.Second
)

// Holder puts policies in force (package engine).
type Holder interface {
	SetPolicy(p *policy.Policy)
	RefuseAll(why error)
	PolicyHash() string
}

// Watcher keeps the policy in force that its file holds. An invalid file is told
// loudly and changes nothing; at the start it leaves everything refused.
type Watcher struct {
	path     string
	holder   Holder
	metrics  *Metrics
	notifier *Notifier
	failed   string // the last error, so that it is told once
}

// NewWatcher makes a watcher and loads the policy for the first time.
func NewWatcher(path string, holder Holder, metrics *Metrics, notifier *Notifier) *Watcher {
	w := &Watcher{path: path, holder: holder, metrics: metrics, notifier: notifier}
	w.Load()
	return w
}

// Load reads the file and puts it in force if it is new and valid. The file is
// read whole before anything changes, and requests in hand keep the policy that
// they began with.
func (w *Watcher) Load() {
	p, err := policy.Load(w.path)
	if err != nil {
		w.metrics.policyValid.Set(0)
		w.holder.RefuseAll(err)
		if w.failed != err.Error() {
			w.failed = err.Error()
			w.metrics.reloads.WithLabelValues("invalid").Inc()
			slog.Error("POLICY INVALID: it is not in force", "path", w.path, "error", err, "stays in force", orNone(w.holder.PolicyHash()))
		}
		return
	}
	w.failed = ""
	w.metrics.policyValid.Set(1)
	if p.Hash == w.holder.PolicyHash() {
		return
	}
	w.notifier.Reloading()
	w.holder.SetPolicy(p)
	w.notifier.Ready()
	w.metrics.reloads.WithLabelValues("valid").Inc()
	slog.Info("policy in force", "path", w.path, "hash", p.Hash, "scopes", len(p.Scopes()))
}

func orNone(hash string) string {
	if hash == "" {
		return "none: everything is refused"
	}
	return hash
}

// Watch loads the policy whenever its folder changes, or reload is signalled,
// until the context ends.
func (w *Watcher) Watch(ctx context.Context, reload <-chan struct{}) error {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.path, err)
	}
	defer func() { _ = events.Close() }()
	// The folder, not the file: a rename over the file leaves a watch on the file
	// with the old one.
	folder := filepath.Dir(w.path)
	if err := events.Add(folder); err != nil {
		slog.Warn("policy folder can't be watched; looking every few seconds", "folder", folder, "every", poll, "error", err)
	}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	quiet := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events.Events:
			quiet.Reset(settle)
		case err := <-events.Errors:
			slog.Warn("policy watch", "error", err)
			quiet.Reset(settle)
		case <-reload:
			quiet.Reset(0)
		case <-ticker.C:
			_ = events.Add(folder) // a folder that was replaced needs a new watch; told above if it fails
			w.Load()
		case <-quiet.C:
			w.Load()
		}
	}
}
