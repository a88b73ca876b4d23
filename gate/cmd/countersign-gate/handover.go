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

// pluginPatience is how long a gate that takes over waits for NRI.
const pluginPatience = 10 * time.Second

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

// settling is what a runtime is given to take a plugin that has answered into its list.
const settling = 300 * time.Millisecond

// takeOver makes sure that this gate refuses nothing that the one before allows,
// and then has that one stop accepting; where there is none it does nothing.
func takeOver(ctx context.Context, sockets *daemon.Sockets, gate *engine.Engine, plugin func() string) error {
	if !sockets.TakenOver() {
		return nil
	}
	if gate.PolicyHash() == "" {
		return errors.New("hand-over: the policy is not valid; the gate before goes on with the one that it has")
	}
	for end := time.Now().Add(pluginPatience); sockets.PluginFirst() && plugin != nil && plugin() == nri.Disconnected; {
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("hand-over: not registered with NRI within %s, and the gate before is", pluginPatience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if sockets.PluginFirst() && plugin != nil {
		time.Sleep(settling) // the runtime counts a plugin once the answer to its last question has arrived there
	}
	return sockets.Await()
}

// handOver starts the next gate on SIGUSR2. One that does not come to serve changes
// nothing; once one serves, done is called.
func handOver(ctx context.Context, sockets *daemon.Sockets, next program, plugin func() string, tell func(pid int), done func()) {
	defer signal.Stop(next.signals)
	path, err := daemon.Program()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.signals:
		}
		registered := plugin != nil && plugin() == nri.Connected
		if err == nil {
			err = sockets.HandOver(ctx, path, next.args, registered, tell)
		}
		if err == nil {
			done()
			return
		}
		slog.Error("NOT HANDED OVER: this gate goes on serving", "program", path, "error", err)
		path, err = daemon.Program()
	}
}
