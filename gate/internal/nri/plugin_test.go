package nri

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"

	"countersign/gate/internal/fakenri"
)

const (
	hook = "/opt/bin/countersign-hook"
	gate = "/run/gate.sock"
)

// runsHooks knows one runtime handler whose runtime runs none.
func runsHooks(_ context.Context, handler string) error {
	if handler == "vm" || handler == "untrusted" {
		return errors.New("UNSUPPORTED_RUNTIME: it runs none")
	}
	return nil
}

func always() func(context.Context, string) error { return runsHooks }

func runtime(t *testing.T, socket string) *adaptation.Adaptation {
	t.Helper()
	return fakenri.Start(t, socket, Name)
}

func plugin(t *testing.T, socket string, adds bool) (p *Plugin, stop func()) {
	t.Helper()
	return started(t, Config{Socket: socket, Hook: hook, Gate: gate, Adds: adds, Runs: always})
}

// started runs a plugin until it is stopped, or the test ends.
func started(t *testing.T, c Config) (p *Plugin, stop func()) {
	t.Helper()
	p = New(c)
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

func ours() *api.Hook {
	return &api.Hook{Path: hook, Args: []string{"countersign-hook", "--socket", gate}, Timeout: api.Int(10)}
}

func TestEveryContainerGetsTheHookOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	p, _ := plugin(t, socket, true)
	registered(t, r, p)
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
		hooks, err := fakenri.Create(r, test.has...)
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
	if _, err := fakenri.Create(r, ours()); err == nil || !strings.Contains(err.Error(), Name) {
		t.Errorf("never there: %v", err)
	}
	p, stop := plugin(t, socket, true)
	registered(t, r, p)
	stop()
	becomes(t, p, Disconnected)
	// The runtime may notice only now; a validator that is gone refuses as well.
	for range 2 {
		if _, err := fakenri.Create(r, ours()); err == nil {
			t.Error("a container was made while the plugin was gone")
		}
	}
}

func TestAPluginThatAddsNothingRefusesWhatHasNoHook(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	p, _ := plugin(t, socket, false)
	registered(t, r, p)
	if hooks, err := fakenri.Create(r, ours()); err != nil || len(hooks) != 1 {
		t.Errorf("with the hook: %v, %v", hooks, err)
	}
	other := ours()
	other.Args = []string{"countersign-hook", "--socket", "/tmp/other.sock"}
	for name, has := range map[string][]*api.Hook{
		"no hook":              nil,
		"another program":      {{Path: "/bin/true", Args: ours().Args}},
		"asks another gate":    {other},
		"no arguments":         {{Path: hook}},
		"more arguments":       {{Path: hook, Args: append(ours().Args, "--more")}},
		"none after the first": {{Path: hook, Args: ours().Args[:1]}},
	} {
		if _, err := fakenri.Create(r, has...); err == nil || !strings.Contains(err.Error(), "countersign: refused container container: GATE_DOWN: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if hooks, err := fakenri.Create(r, &api.Hook{Path: "/bin/true"}, ours()); err != nil || len(hooks) != 2 {
		t.Errorf("after others' hooks: %v, %v", hooks, err)
	}
}

// A hung gate is seen by nobody but those that wait for it. With NRI 0.12.5 the
// first container would be made if the plugin did not ask for its failures to count.
func TestWhileThePluginHangsNoContainerIsMade(t *testing.T) {
	adaptation.SetPluginRequestTimeout(time.Second)
	t.Cleanup(func() { adaptation.SetPluginRequestTimeout(adaptation.DefaultPluginRequestTimeout) })
	for name, adds := range map[string]bool{"adds the hook": true, "only refuses": false} {
		for what, has := range map[string][]*api.Hook{"with the hook": {ours()}, "the hook gone as well": nil} {
			t.Run(name+", "+what, func(t *testing.T) {
				dir := t.TempDir()
				behind, socket := filepath.Join(dir, "runtime.sock"), filepath.Join(dir, "nri.sock")
				r := runtime(t, behind)
				_, frozen := relayed(t, socket, behind)
				p, _ := plugin(t, socket, adds)
				registered(t, r, p)
				frozen.Lock()
				for _, which := range []string{"first", "second"} {
					if hooks, err := fakenri.Create(r, has...); err == nil {
						t.Errorf("the %s container is made, with the hooks %v", which, hooks)
					}
				}
				frozen.Unlock()
				awaken(t, r)
			})
		}
	}
}

// registered waits until the runtime counts on the plugin: a little after the plugin
// itself has answered to the last step.
func registered(t *testing.T, r *adaptation.Adaptation, p *Plugin) {
	t.Helper()
	becomes(t, p, Connected)
	awaken(t, r)
}

// awaken waits until a container with the hook is made again.
func awaken(t *testing.T, r *adaptation.Adaptation) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := fakenri.Create(r, ours())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still refused: %v", err)
		}
	}
}

func TestGatesThatDieWhileTheyRegisterHinderNoOther(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	for range 20 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	p, _ := plugin(t, socket, false)
	registered(t, r, p)
}

// What the runtime does between two gates is proven on a real one (tests/e2e); here
// is the order that makes it so.
func TestAPlacePassesOnWhileNoContainerIsCreated(t *testing.T) {
	dir := t.TempDir()
	behind, socket := filepath.Join(dir, "runtime.sock"), filepath.Join(dir, "nri.sock")
	r := runtime(t, behind)
	before := New(Config{Socket: behind, Hook: hook, Gate: gate, Runs: always})
	before.Start(t.Context())
	registered(t, r, before)

	created, asked := make(chan error, 1), 0
	next := New(Config{Socket: socket, Hook: hook, Gate: gate, Runs: always, Displace: func() error {
		asked++
		go func() {
			_, err := fakenri.Create(r, ours())
			created <- err
		}()
		select {
		case err := <-created:
			t.Errorf("a container was created meanwhile: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		before.Leave()
		return nil
	}})
	cut := relay(t, socket, behind)
	next.Start(t.Context())
	becomes(t, next, Connected)
	if asked == 0 {
		t.Fatal("the gate before was not asked to leave")
	}
	if err := <-created; err != nil {
		t.Errorf("what waited is refused: %v", err)
	}
	if before.Registered() || !next.Registered() {
		t.Errorf("the gate before is %s, the next is %s", before.State(), next.State())
	}

	cut()
	becomes(t, next, Disconnected)
	before.Return()
	registered(t, r, before)
	relay(t, socket, behind)
	registered(t, r, next)
	if asked != 1 || !before.Registered() {
		t.Errorf("asked %d times to leave, and is %s", asked, before.State())
	}
}

func TestAPluginThatCannotTakeThePlaceIsNotCounted(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	r := runtime(t, socket)
	tried := make(chan struct{})
	p := New(Config{Socket: socket, Hook: hook, Gate: gate, Runs: always, Displace: func() error { close(tried); return errors.New("it stays") }})
	p.Start(t.Context())
	<-tried
	time.Sleep(2 * noticing)
	if _, err := fakenri.Create(r, ours()); err == nil || p.Registered() {
		t.Errorf("%v, and it is %s", err, p.State())
	}
}

func TestAContainerWithoutTheHookIsRefused(t *testing.T) {
	s := &session{Plugin: New(Config{Hook: hook, Gate: gate}), runs: runsHooks}
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

func TestAContainerInARuntimeThatMayRunNoHooksIsRefused(t *testing.T) {
	s := &session{Plugin: New(Config{Hook: hook, Gate: gate}), runs: runsHooks}
	for handler, says := range map[string]string{"": "", "runc": "", "vm": "countersign: refused container container: UNSUPPORTED_RUNTIME: "} {
		err := s.ValidateContainerAdjustment(t.Context(), &api.ValidateContainerAdjustmentRequest{
			Pod: &api.PodSandbox{RuntimeHandler: handler}, Container: &api.Container{Id: "container", Hooks: &api.Hooks{CreateRuntime: []*api.Hook{ours()}}},
		})
		if (err == nil) != (says == "") || err != nil && !strings.HasPrefix(err.Error(), says) {
			t.Errorf("handler %q: %v, expected %q", handler, err, says)
		}
	}
}

// A runtime that was restarted with another configuration may have another runtime under
// the same name.
func TestEachConnectionAsksForTheHandlersAnew(t *testing.T) {
	dir := t.TempDir()
	behind, socket := filepath.Join(dir, "runtime.sock"), filepath.Join(dir, "nri.sock")
	r := runtime(t, behind)
	connections := 0
	p := New(Config{Socket: socket, Hook: hook, Gate: gate, Runs: func() func(context.Context, string) error {
		connections++
		refuses := connections == 2
		return func(context.Context, string) error {
			if refuses {
				return errors.New("UNSUPPORTED_RUNTIME: it runs none")
			}
			return nil
		}
	}})
	p.Start(t.Context())
	cut := relay(t, socket, behind)
	registered(t, r, p)
	cut()
	becomes(t, p, Disconnected)
	relay(t, socket, behind)
	becomes(t, p, Connected)
	if _, err := fakenri.Create(r, ours()); err == nil || !strings.Contains(err.Error(), "UNSUPPORTED_RUNTIME") {
		t.Errorf("after it came back: %v", err)
	}
}

func TestAnAnnotationThatPicksTheRuntimeHandlerIsFollowed(t *testing.T) {
	s := &session{Plugin: New(Config{Hook: hook, Gate: gate}), runs: runsHooks}
	for value, refused := range map[string]bool{"true": true, "false": false} {
		err := s.ValidateContainerAdjustment(t.Context(), &api.ValidateContainerAdjustmentRequest{
			Pod:       &api.PodSandbox{Annotations: map[string]string{"io.kubernetes.cri.untrusted-workload": value}},
			Container: &api.Container{Id: "container", Hooks: &api.Hooks{CreateRuntime: []*api.Hook{ours()}}},
		})
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "UNSUPPORTED_RUNTIME") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestThePluginComesBackWhenTheConnectionIsLost(t *testing.T) {
	dir := t.TempDir()
	behind, socket := filepath.Join(dir, "runtime.sock"), filepath.Join(dir, "nri.sock")
	p, _ := plugin(t, socket, true)
	time.Sleep(2 * soonest)
	if p.State() != Disconnected {
		t.Fatalf("without a runtime the plugin is %s", p.State())
	}
	r := runtime(t, behind)
	cut := relay(t, socket, behind)
	registered(t, r, p)
	cut()
	becomes(t, p, Disconnected)
	relay(t, socket, behind)
	registered(t, r, p)
	if hooks, err := fakenri.Create(r); err != nil || len(hooks) != 1 {
		t.Errorf("got %v, %v", hooks, err)
	}
}

// relay passes connections on, until it is cut: a runtime that ends, but for its
// process.
func relay(t *testing.T, from, to string) (cut func()) {
	t.Helper()
	cut, _ = relayed(t, from, to)
	return cut
}

// valve is a writer that passes nothing on while it is locked.
type valve struct {
	*sync.RWMutex
	io.Writer
}

func (v valve) Write(b []byte) (int, error) {
	v.RLock()
	defer v.RUnlock()
	return v.Writer.Write(b)
}

// relayed is a relay that can also be frozen, as a process is by SIGSTOP: it
// accepts, and nothing comes back.
func relayed(t *testing.T, from, to string) (cut func(), frozen *sync.RWMutex) {
	t.Helper()
	frozen = &sync.RWMutex{}
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
			for to, from := range map[net.Conn]net.Conn{in: out, out: in} {
				go func() {
					_, _ = io.Copy(valve{frozen, to}, from)
					_ = to.Close()
				}()
			}
		}
	}()
	return cut, frozen
}
