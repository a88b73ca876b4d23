// Package observe has each container judged once it has started, and enforces nothing:
// what is refused runs on. A runtime's events say what starts (Containerd, or package
// nri); what runs already, or started while nobody told, is looked for every so often.
package observe

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"countersign/gate/internal/cri"
	"countersign/gate/internal/verdict"
)

const (
	// workers bound how many containers are judged at once: most of a verdict is waiting
	// for a registry, and a container that has ended may be removed meanwhile.
	workers = 16
	// maxWaiting bounds those that wait for it.
	maxWaiting = 1024
	// maxSeen bounds the containers of which is known that they were judged.
	maxSeen = 16384
	// every is how often what runs is compared with what was told.
	every = 30 * time.Second
)

// Runtime lists what runs (package cri).
type Runtime interface {
	Running(ctx context.Context) ([]cri.Container, error)
}

// Judge gives the verdicts (package engine).
type Judge interface {
	Audit(ctx context.Context, id string) *verdict.Verdict
}

// Observer has containers judged once each.
type Observer struct {
	judge   Judge
	runtime Runtime
	missed  func() // is called for each container that could not wait

	waiting chan string
	look    chan struct{} // at what runs, now
	mu      sync.Mutex
	seen    map[string]bool
	order   []string // of seen
}

// New makes an observer. missed is called for each container that started while too many
// waited; if it runs on it is found later.
func New(judge Judge, runtime Runtime, missed func()) *Observer {
	return &Observer{judge: judge, runtime: runtime, missed: missed, waiting: make(chan string, maxWaiting), look: make(chan struct{}, 1), seen: map[string]bool{}}
}

// Started has a container judged soon, unless it was already. It never blocks.
func (o *Observer) Started(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[id] {
		return
	}
	select {
	case o.waiting <- id:
	default:
		slog.Error("NOT JUDGED: too many containers start at once", "container", id, "waiting", maxWaiting)
		o.missed()
		return
	}
	if len(o.order) == maxSeen {
		delete(o.seen, o.order[0])
		o.order = o.order[1:]
	}
	o.seen[id], o.order = true, append(o.order, id)
}

// Compare has what runs compared with what was told soon. It never blocks.
func (o *Observer) Compare() {
	select {
	case o.look <- struct{}{}:
	default:
	}
}

// Run judges what Started tells, and what else runs, until the context ends.
func (o *Observer) Run(ctx context.Context) {
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case id := <-o.waiting:
					o.judge.Audit(ctx, id) // whoever observes verdicts is told
				}
			}
		})
	}
	o.compare(ctx)
	group.Wait()
}

// compare looks every so often for what runs and was not told.
func (o *Observer) compare(ctx context.Context) {
	told := ""
	for {
		running, err := o.runtime.Running(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && err.Error() != told:
			told = err.Error()
			slog.Warn("what runs is not known", "error", err)
		case err == nil:
			told = ""
		}
		for _, c := range running {
			o.Started(c.ID)
		}
		select {
		case <-ctx.Done():
			return
		case <-o.look:
		case <-time.After(every):
		}
	}
}
