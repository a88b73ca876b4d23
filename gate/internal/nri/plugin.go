// Package nri makes the gate a plugin of the runtime's Node Resource Interface: a
// validator that refuses a container which is to be made without the hook. On
// containerd the hook comes from each runtime handler's base spec, so a handler that
// was added later, or a base spec that was changed, has none. On CRI-O it comes from
// hooks.d, and CRI-O drops one whose program is missing when it reads that folder;
// there the plugin first puts the hook into a container that lacks it. The runtime,
// for its part, is to require the plugin (required_plugins of NRI's default
// validator), so that without a gate no container is made.
package nri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

const (
	// Name is what the runtime's configuration requires.
	Name = "countersign"
	// order is where the plugin stands among others; any would do, for plugins can
	// add hooks but not take them away.
	order = "10"
	// hookTimeout is the hook's "timeout", in seconds, as in its hooks.d file.
	hookTimeout = 10
	// patience is how long the runtime may take to configure the plugin.
	patience = 10 * time.Second
	// The wait before each new try to connect. The longest bounds how long nothing
	// starts after the gate or the runtime came back.
	soonest = 50 * time.Millisecond
	latest  = time.Second
	// noticing is what the runtime is given to notice a closed connection.
	noticing = 100 * time.Millisecond
)

// States, as a ping tells them.
const (
	Connected    = "connected"
	Disconnected = "disconnected"
	Off          = "off"
)

// Config says what the plugin watches over.
type Config struct {
	Socket  string // of NRI
	Runtime string // the runtime's own socket, on which whoever serves NRI has to listen as well
	Hook    string // the hook's program, and
	Gate    string // the gate's socket, by which the hook is known
	Adds    bool   // the hook is put in where it is missing; else such a container is refused

	// Runs gives, for one connection, what is nil for a runtime handler whose runtime runs
	// hooks: a runtime that was started anew may have others. Not for an observer.
	Runs func() func(ctx context.Context, handler string) error

	// Started is told of each container that starts, and of those that run already, by a
	// plugin that does nothing else: it has a name of its own, for a runtime that requires
	// Name must not take it for that. It must not block. nil for the plugin above.
	Started func(id string)

	// Displace has the gate before leave NRI, where there is one. It is called once, while
	// the runtime synchronises this plugin: it makes no container until that is answered.
	Displace func() error
}

// Plugin keeps itself registered with one runtime.
type Plugin struct {
	socket    string
	runtime   string
	hook      []string // argv
	adds      bool
	runs      func() func(ctx context.Context, handler string) error
	started   func(id string)
	displace  func() error
	connected atomic.Bool
	enter     func()
	leave     func()
}

// New makes a plugin.
func New(c Config) *Plugin {
	p := &Plugin{socket: c.Socket, runtime: c.Runtime, hook: []string{c.Hook, "--socket", c.Gate}, adds: c.Adds, runs: c.Runs, started: c.Started, displace: func() error { return nil }}
	if c.Displace != nil {
		p.displace = sync.OnceValue(func() error {
			err := c.Displace()
			time.Sleep(noticing)
			return err
		})
	}
	return p
}

// State says whether the plugin is registered. A nil plugin is none.
func (p *Plugin) State() string {
	switch {
	case p == nil:
		return Off
	case p.connected.Load():
		return Connected
	}
	return Disconnected
}

// Registered says whether the runtime asks this plugin.
func (p *Plugin) Registered() bool { return p.State() == Connected }

// Start has the plugin stay connected until the context ends, or Leave.
func (p *Plugin) Start(ctx context.Context) {
	p.enter = func() {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		p.leave = func() { cancel(); <-done }
	}
	p.enter()
}

// Leave closes the connection of a plugin that was started; Return makes it anew.
func (p *Plugin) Leave() {
	if p != nil {
		p.leave()
	}
}

// Return follows upon Leave.
func (p *Plugin) Return() {
	if p != nil {
		p.enter()
	}
}

// Run stays connected until the context ends: whenever the connection is lost it
// tries again, without end.
func (p *Plugin) Run(ctx context.Context) {
	pause, told := soonest, ""
	for ctx.Err() == nil {
		was, err := p.session(ctx)
		if was {
			pause, told = soonest, ""
		}
		if ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			slog.Warn("NRI: not connected; trying again", "socket", p.socket, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, latest)
		}
	}
}

// session is one connection, to its end; was says whether it got as far as being
// registered.
func (p *Plugin) session(ctx context.Context) (was bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "unix", p.socket)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	if err := p.ofRuntime(ctx, conn.(*net.UnixConn)); errors.Is(err, errStranger) {
		return false, err
	}
	one := &session{Plugin: p, ready: make(chan struct{})}
	if p.runs != nil {
		one.runs = p.runs()
	}
	closed := make(chan struct{})
	options := []stub.Option{stub.WithPluginName(p.name()), stub.WithPluginIdx(order), stub.WithConnection(conn), stub.WithLogger(quiet{}), stub.WithOnClose(closer(closed))}
	if p.started == nil {
		options = append(options, stub.WithFailurePolicy(&api.FailurePolicy{FailRequest: true}))
	}
	s, err := stub.New(p.handler(one), options...)
	if err != nil {
		return false, err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-one.ready:
	case err := <-done:
		return false, fmt.Errorf("not registered: %w", orClosed(err))
	case <-closed:
		return false, errors.New("not registered: the connection was closed")
	case <-time.After(patience):
		return false, fmt.Errorf("not registered: no answer within %s", patience)
	case <-ctx.Done():
		return false, ctx.Err()
	}
	p.connected.Store(true)
	defer p.connected.Store(false)
	slog.Info("NRI: registered", "socket", p.socket, "plugin", order+"-"+p.name())
	strange := make(chan error, 1)
	go p.awaitStranger(ctx, conn.(*net.UnixConn), strange)
	select {
	case err = <-done:
	case err = <-strange:
	case <-closed:
	}
	return true, orClosed(err)
}

func orClosed(err error) error {
	if err == nil {
		return errors.New("the connection was closed")
	}
	return err
}

// closer gives a function that closes a channel when first called.
func closer(c chan struct{}) func() {
	var called atomic.Bool
	return func() {
		if called.CompareAndSwap(false, true) {
			close(c)
		}
	}
}

// quiet passes the library's errors on, and nothing else: what it warns of is that
// a runtime's version is not NRI's.
type quiet struct{}

func (quiet) Debugf(context.Context, string, ...any) {}
func (quiet) Infof(context.Context, string, ...any)  {}
func (quiet) Warnf(context.Context, string, ...any)  {}
func (quiet) Errorf(_ context.Context, format string, args ...any) {
	slog.Error("NRI: " + fmt.Sprintf(format, args...))
}
