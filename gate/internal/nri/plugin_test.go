package nri

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	validator "github.com/containerd/nri/plugins/default-validator"
)

const (
	hook = "/opt/bin/countersign-hook"
	gate = "/run/gate.sock"
)

// runtime is the side of NRI that CRI-O runs, which requires the plugin.
func runtime(t *testing.T, socket string) *adaptation.Adaptation {
	t.Helper()
	dir := t.TempDir()
	synchronize := func(ctx context.Context, call adaptation.SyncCB) error {
		_, err := call(ctx, nil, nil)
		return err
	}
	update := func(context.Context, []*adaptation.ContainerUpdate) ([]*adaptation.ContainerUpdate, error) {
		return nil, nil
	}
	r, err := adaptation.New("cri-o", "1.36.3", synchronize, update, adaptation.WithSocketPath(socket),
		adaptation.WithPluginPath(filepath.Join(dir, "plugins")), adaptation.WithPluginConfigPath(filepath.Join(dir, "conf")),
		adaptation.WithDefaultValidator(&validator.DefaultValidatorConfig{Enable: true, RequiredPlugins: []string{Name}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

func plugin(t *testing.T, socket string) (p *Plugin, stop func()) {
	t.Helper()
	p = New(socket, hook, gate)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return p, stop
}

func becomes(t *testing.T, p *Plugin, state string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); p.State() != state; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the plugin is %s, expected %s", p.State(), state)
		}
	}
}

// create gives the hooks that a container ends up with.
func create(r *adaptation.Adaptation, has ...*api.Hook) ([]*api.Hook, error) {
	response, err := r.CreateContainer(context.Background(), &adaptation.CreateContainerRequest{
		Pod:       &api.PodSandbox{Id: "pod", Name: "pod", Namespace: "ns"},
		Container: &api.Container{Id: "container", PodSandboxId: "pod", Name: "main", Hooks: &api.Hooks{CreateRuntime: has}},
	})
	return append(has, response.GetAdjust().GetHooks().GetCreateRuntime()...), err
}

func ours() *api.Hook {
	return &api.Hook{Path: hook, Args: []string{"countersign-hook", "--socket", gate}, Timeout: api.Int(10)}
}

func TestEveryContainerGetsTheHookOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	p, _ := plugin(t, socket)
	becomes(t, p, Connected)
	other := ours()
	other.Args = []string{"countersign-hook", "--socket", "/tmp/other.sock"}
	for _, test := range []struct {
		name string
		has  []*api.Hook
		want int
	}{
		{"hooks.d gave it", []*api.Hook{ours()}, 1},
		{"hooks.d gave none", nil, 1},
		{"hooks.d gave another program", []*api.Hook{{Path: "/bin/true", Args: ours().Args}}, 2},
		{"hooks.d gave one that asks another gate", []*api.Hook{other}, 2},
		{"hooks.d gave one without arguments", []*api.Hook{{Path: hook}}, 2},
	} {
		hooks, err := create(r, test.has...)
		if err != nil || len(hooks) != test.want {
			t.Errorf("%s: %v, %v", test.name, hooks, err)
			continue
		}
		if !p.hooked(&api.Hooks{CreateRuntime: hooks}) {
			t.Errorf("%s: the hook is not among %v", test.name, hooks)
		}
		if last := hooks[len(hooks)-1]; last.GetTimeout().GetValue() != hookTimeout {
			t.Errorf("%s: the hook has the timeout %v", test.name, last.GetTimeout())
		}
	}
}

func TestWithoutThePluginNoContainerIsMade(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	if _, err := create(r, ours()); err == nil || !strings.Contains(err.Error(), Name) {
		t.Errorf("never there: %v", err)
	}
	p, stop := plugin(t, socket)
	becomes(t, p, Connected)
	if _, err := create(r, ours()); err != nil {
		t.Error(err)
	}
	stop()
	becomes(t, p, Disconnected)
	// The runtime may notice only now; a validator that is gone refuses as well.
	for range 2 {
		if _, err := create(r, ours()); err == nil {
			t.Error("a container was made while the plugin was gone")
		}
	}
}

func TestAContainerWithoutTheHookIsRefused(t *testing.T) {
	s := &session{Plugin: New("", hook, gate)}
	request := &api.ValidateContainerAdjustmentRequest{Container: &api.Container{Id: "container"}, Adjust: &api.ContainerAdjustment{}}
	if err := s.ValidateContainerAdjustment(context.Background(), request); err == nil || !strings.Contains(err.Error(), "GATE_DOWN") {
		t.Errorf("no hook: %v", err)
	}
	request.Adjust.AddHooks(&api.Hooks{CreateRuntime: []*api.Hook{ours()}})
	if err := s.ValidateContainerAdjustment(context.Background(), request); err != nil {
		t.Errorf("added: %v", err)
	}
	request.Adjust, request.Container.Hooks = nil, &api.Hooks{CreateRuntime: []*api.Hook{ours()}}
	if err := s.ValidateContainerAdjustment(context.Background(), request); err != nil {
		t.Errorf("there already: %v", err)
	}
	request.Container.Hooks = &api.Hooks{Poststop: []*api.Hook{ours()}}
	if err := s.ValidateContainerAdjustment(context.Background(), request); err == nil {
		t.Error("a hook of another stage was taken for ours")
	}
}

func TestThePluginComesBackWhenTheConnectionIsLost(t *testing.T) {
	dir := t.TempDir()
	behind, socket := filepath.Join(dir, "runtime.sock"), filepath.Join(dir, "nri.sock")
	p, _ := plugin(t, socket)
	time.Sleep(2 * soonest)
	if p.State() != Disconnected {
		t.Fatalf("without a runtime the plugin is %s", p.State())
	}
	r := runtime(t, behind)
	cut := relay(t, socket, behind)
	becomes(t, p, Connected)
	cut()
	becomes(t, p, Disconnected)
	relay(t, socket, behind)
	becomes(t, p, Connected)
	if hooks, err := create(r); err != nil || len(hooks) != 1 {
		t.Errorf("got %v, %v", hooks, err)
	}
}

// relay passes connections on, until it is cut: a runtime that ends, but for its
// process.
func relay(t *testing.T, from, to string) (cut func()) {
	t.Helper()
	listener, err := net.Listen("unix", from)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	open := []io.Closer{listener}
	cut = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			_ = c.Close()
		}
	}
	t.Cleanup(cut)
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			go func() { _, _ = io.Copy(in, out) }()
			go func() { _, _ = io.Copy(out, in) }()
		}
	}()
	return cut
}
