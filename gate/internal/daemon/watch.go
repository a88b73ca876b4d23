package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"countersign/gate/internal/policy"
)

const (
	// settle is how long after a change the policy is read. Later changes don't put
	// it off, or a busy folder would put it off for ever.
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
	w.Load() // what changed before the watch
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var due <-chan time.Time // nil: nothing to do
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-events.Events:
			if due == nil && w.concerns(event.Name) {
				due = time.After(settle)
			}
		case err := <-events.Errors:
			slog.Warn("policy watch", "error", err)
		case <-reload:
			w.Load()
		case <-ticker.C:
			_ = events.Add(folder) // a folder that was replaced needs a new watch; told above if it fails
			w.Load()
		case <-due:
			due = nil
			w.Load()
		}
	}
}

// concerns says whether a change in the folder may be one of the policy: of the
// file itself, or of the "..data" link through which Kubernetes puts files in place.
func (w *Watcher) concerns(changed string) bool {
	name := filepath.Base(changed)
	return name == filepath.Base(w.path) || strings.HasPrefix(name, "..")
}
