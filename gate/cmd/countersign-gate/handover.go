package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"countersign/gate/internal/daemon"
	"countersign/gate/internal/engine"
	"countersign/gate/internal/nri"
)

// errHandedOver is why a gate stops whose successor serves.
var errHandedOver = errors.New("the next gate serves")

// pluginPatience is how long a gate that takes over waits for NRI: a runtime takes no
// plugin in while it stops a container, for which Kubernetes gives 30 s by default.
const pluginPatience = 40 * time.Second

// program is what to start as the next gate.
type program struct {
	args    []string
	signals chan os.Signal // SIGUSR2, caught from the start: it would end the process
}

func next(command, configPath string) program {
	p := program{args: []string{command, "--config", configPath}, signals: make(chan os.Signal, 1)}
	signal.Notify(p.signals, syscall.SIGUSR2)
	return p
}

// mayTakeOver says why this gate must not take over from the one before, where there
// is one: it would refuse what that one allows. It is asked before anything changes.
func mayTakeOver(sockets *daemon.Sockets, gate *engine.Engine) error {
	if sockets.TakenOver() && gate.PolicyHash() == "" {
		return errors.New("hand-over: the policy is not valid; the gate before goes on with the one that it has")
	}
	return nil
}

// displacer gives what has the gate before leave NRI, nil where there is none. Where that
// fails this gate ends.
func displacer(sockets *daemon.Sockets, end context.CancelCauseFunc) func() error {
	if !sockets.TakenOver() {
		return nil
	}
	return func() error {
		err := sockets.Displace()
		if err != nil {
			end(err)
		}
		return err
	}
}

// takeOver waits until this gate's plugin has taken its place in NRI, and then has the
// gate before stop accepting; where there is none it does nothing.
func takeOver(ctx context.Context, sockets *daemon.Sockets, plugin *nri.Plugin) error {
	if !sockets.TakenOver() {
		return nil
	}
	for end := time.Now().Add(pluginPatience); sockets.PluginFirst() && plugin.State() == nri.Disconnected; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(end) {
			return fmt.Errorf("hand-over: not registered with NRI within %s, and the gate before is", pluginPatience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return sockets.Await()
}

// handOver starts the next gate on SIGUSR2. One that does not come to serve changes
// nothing; once one serves, done is called.
func handOver(ctx context.Context, sockets *daemon.Sockets, next program, plugin *nri.Plugin, tell func(pid int), done func()) {
	defer signal.Stop(next.signals)
	path, err := daemon.Program()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.signals:
		}
		if err == nil {
			err = sockets.HandOver(ctx, path, next.args, plugin, tell)
		}
		if err == nil {
			done()
			return
		}
		slog.Error("NOT HANDED OVER: this gate goes on serving", "program", path, "error", err)
		path, err = daemon.Program()
	}
}
