package nri

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"

	"countersign/gate/internal/fakenri"
)

// watched is an observing plugin of a runtime, and what it was told.
type watched struct {
	*Plugin
	mu  sync.Mutex
	ids []string
}

func observing(t *testing.T, socket string) *watched {
	t.Helper()
	w := &watched{}
	w.Plugin, _ = started(t, Config{Socket: socket, Started: func(id string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ids = append(w.ids, id)
	}})
	return w
}

func TestAnObserverIsToldOfEachStartAndOfNothingElse(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	w := observing(t, socket)
	becomes(t, w.Plugin, Connected)
	pod, container := &api.PodSandbox{Id: "pod"}, &api.Container{Id: "container", PodSandboxId: "pod"}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // until the runtime has it too
		if err := r.PostStartContainer(t.Context(), &adaptation.PostStartContainerRequest{Pod: pod, Container: container}); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		told := strings.Join(w.ids, " ")
		w.mu.Unlock()
		if strings.HasPrefix(told, "container") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("told of %q", told)
		}
	}
}

func TestAnObserverIsNotThePluginThatTheRuntimeRequires(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	w := observing(t, socket)
	becomes(t, w.Plugin, Connected)
	if _, err := fakenri.Create(r, ours()); err == nil || !strings.Contains(err.Error(), Name) {
		t.Errorf("with an observer alone: %v", err)
	}
	p, _ := plugin(t, socket, true)
	registered(t, r, p)
	if _, err := fakenri.Create(r, ours()); err != nil {
		t.Errorf("with the gate beside it: %v", err)
	}
}

func TestAnObserverIsToldOfWhatRunsAlready(t *testing.T) {
	w := &watched{}
	w.Plugin, _ = started(t, Config{Started: func(id string) { w.ids = append(w.ids, id) }})
	o := w.handler(&session{Plugin: w.Plugin, ready: make(chan struct{})}).(*observer)
	if _, err := o.Synchronize(t.Context(), nil, []*api.Container{
		{Id: "runs", State: api.ContainerState_CONTAINER_RUNNING}, {Id: "ended", State: api.ContainerState_CONTAINER_STOPPED},
	}); err != nil || strings.Join(w.ids, " ") != "runs" {
		t.Errorf("told of %v, %v", w.ids, err)
	}
}
