package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
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
	file     policy.File
	holder   Holder
	metrics  *Metrics
	notifier *Notifier
	failed   string // the last error, so that it is told once
	state    atomic.Pointer[PolicyState]
}

// PolicyState is what a ping tells of the policy.
type PolicyState struct {
	Serial  int64  // of the policy in force; 0 for none
	Problem string // why the file as it is now is not in force; "" if it is
}

// State gives the state of the policy, to any goroutine.
func (w *Watcher) State() PolicyState { return *w.state.Load() }

// NewWatcher makes a watcher and loads the policy for the first time.
func NewWatcher(file policy.File, holder Holder, metrics *Metrics, notifier *Notifier) *Watcher {
	w := &Watcher{file: file, holder: holder, metrics: metrics, notifier: notifier}
	w.state.Store(&PolicyState{})
	w.Load()
	return w
}

// Load reads the file and puts it in force if it is new, valid, and not older than
// what was in force. The file is read whole before anything changes, and requests in
// hand keep the policy that they began with.
func (w *Watcher) Load() {
	p, err := w.file.Load()
	if err != nil {
		w.reject(err)
		return
	}
	if p.Hash != w.holder.PolicyHash() {
		if err := w.enforce(p); err != nil {
			w.reject(err)
			return
		}
	}
	w.failed = ""
	w.metrics.policyValid.Set(1)
	w.state.Store(&PolicyState{Serial: p.Serial})
}

// reject leaves in force what is, and tells why, once.
func (w *Watcher) reject(err error) {
	w.metrics.policyValid.Set(0)
	w.holder.RefuseAll(err)
	w.state.Store(&PolicyState{Serial: w.State().Serial, Problem: err.Error()})
	if w.failed == err.Error() {
		return
	}
	w.failed = err.Error()
	result := "invalid"
	if refused := (*policy.Refused)(nil); errors.As(err, &refused) {
		result = refused.Result
	}
	w.metrics.reloads.WithLabelValues(result).Inc()
	slog.Error("POLICY INVALID: it is not in force", "path", w.file.Path, "error", err, "stays in force", orNone(w.holder.PolicyHash()))
}

// enforce puts p in force once its serial is remembered: after a crash in between no
// older one counts.
func (w *Watcher) enforce(p *policy.Policy) error {
	before, forced, err := w.file.Remember(p)
	if err != nil {
		return err
	}
	w.notifier.Reloading()
	w.holder.SetPolicy(p)
	w.notifier.Ready()
	result := "valid"
	if forced {
		result = "forced"
		slog.Warn("POLICY FORCED: an older serial is in force", "serial", p.Serial, "before", before, "hash", p.Hash, "lists", p.Lists)
	}
	w.metrics.reloads.WithLabelValues(result).Inc()
	w.metrics.policySerial.Set(float64(p.Serial))
	w.metrics.Trusts(p)
	slog.Info("policy in force", "path", w.file.Path, "hash", p.Hash, "serial", p.Serial, "scopes", len(p.Scopes()), "lists", p.Lists)
	return nil
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
		return fmt.Errorf("watch %s: %w", w.file.Path, err)
	}
	defer func() { _ = events.Close() }()
	// The folder, not the file: a rename over the file leaves a watch on the file
	// with the old one.
	folder := filepath.Dir(w.file.Path)
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
// file itself, its signatures, or the "..data" link through which Kubernetes puts files in place.
func (w *Watcher) concerns(changed string) bool {
	name := filepath.Base(changed)
	file := filepath.Base(w.file.Path)
	return name == file || name == file+policy.Signatures || strings.HasPrefix(name, "..")
}
