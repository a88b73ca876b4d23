package handlers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"

	"countersign/gate/internal/code"
	"countersign/gate/internal/crio"
)

// soon bounds the question that a container's creation waits for: less than NRI's patience
// with a plugin.
const soon = time.Second

// table is what a runtime tells of its handlers: the type of each by its name, and the name
// of the one that is taken where a pod names none.
type table struct {
	types    map[string]string
	standard string
}

// Types knows what kind of runtime is behind each runtime handler. A base spec, or hooks.d,
// gives any container the hook; whether anybody runs it is for its runtime to decide, and
// one that makes virtual machines may not.
type Types struct {
	ask    func(context.Context) (table, error)
	runs   []string // the types whose hooks decide starts
	wanted string   // the one of them to name
	mu     sync.Mutex
	known  table
	asked  time.Time
}

// OfContainerd gives the types of the containerd at a socket.
func OfContainerd(address string) *Types {
	return &Types{runs: []string{hooksRun}, wanted: hooksRun, ask: func(ctx context.Context) (table, error) {
		all, err := Config{Address: address}.handlers(ctx)
		if err != nil {
			return table{}, err
		}
		t := table{types: map[string]string{}, standard: all.Standard}
		for name, h := range all.Runtimes {
			t.types[name] = h.RuntimeType
		}
		return t, nil
	}}
}

// OfCrio gives the types of the CRI-O at a socket.
func OfCrio(socket string) *Types {
	return &Types{runs: []string{"", "oci", "pod"}, wanted: "oci", ask: func(ctx context.Context) (table, error) {
		content, err := crio.Configuration(ctx, socket)
		var document struct {
			Crio struct {
				Runtime struct {
					Standard string `toml:"default_runtime"`
					Runtimes map[string]struct {
						Type string `toml:"runtime_type"`
					} `toml:"runtimes"`
				} `toml:"runtime"`
			} `toml:"crio"`
		}
		if err == nil {
			err = toml.Unmarshal(content, &document)
		}
		if err != nil {
			return table{}, fmt.Errorf("CRI-O at %s: its configuration can't be read: %w", socket, err)
		}
		t := table{types: map[string]string{}, standard: document.Crio.Runtime.Standard}
		for name, h := range document.Crio.Runtime.Runtimes {
			t.types[name] = h.Type
		}
		return t, nil
	}}
}

// RunHooks is nil for a runtime handler ("" for the runtime's own choice) whose runtime runs
// the hooks of a container, else a *code.Refusal. What the runtime said counts for as long
// as between two looks of Watch; a handler that it did not name then has it asked anew.
func (t *Types) RunHooks(ctx context.Context, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	kind, there := t.look(name)
	if !there || time.Since(t.asked) >= Every {
		ctx, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		known, err := t.ask(ctx)
		if err != nil {
			return code.Refuse(code.RuntimeUnreachable, fmt.Sprintf("the runtime does not say what its handlers are: %v", err),
				"an answer within "+soon.String(), "see whether the runtime answers")
		}
		t.known, t.asked = known, time.Now()
		kind, there = t.look(name)
	}
	switch {
	case !there:
		return code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("the runtime's configuration has no handler %.80q", name), "one of its handlers", "run set-up again")
	case !slices.Contains(t.runs, kind):
		return code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("its runtime handler %.80q has runtime_type %.80q, which may run no hooks", name, kind),
			fmt.Sprintf("%q", t.wanted), "name another runtime class in the pod, or none")
	}
	return nil
}

// look gives the type of a handler's runtime, if it is known.
func (t *Types) look(name string) (kind string, there bool) {
	if name == "" {
		name = t.known.standard
	}
	kind, there = t.known.types[name]
	return kind, there
}
