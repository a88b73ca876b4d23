// Package handlers watches over containerd's runtime handlers: does each give its
// containers the hook? containerd is asked for the configuration that it runs by.
// One that is new enough refuses containers without the hook itself (package nri);
// where it is too old, this is the only word that a handler which was added after
// set-up starts everything unjudged. It tells; it refuses nothing.
package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// Every is how often containerd is asked; a change is told within a minute.
	Every = 30 * time.Second
	// patience bounds one question.
	patience = 10 * time.Second
	// hooksRun is the only runtime type whose hooks are tried to decide starts.
	hooksRun = "io.containerd.runc.v2"
	maxSpec  = 1 << 20
	// Unknown is what is reported for the number of handlers while containerd does
	// not say.
	Unknown = -1
)

// Config says whom to ask, and how the hook is known.
type Config struct {
	Address string // of containerd's gRPC socket
	Hook    string // the hook's program
	Gate    string // the gate's socket
}

// Watch asks at once and then every so often until the context ends. It logs what is
// new, and reports the number of handlers without the hook each time.
func Watch(ctx context.Context, c Config, every time.Duration, report func(int)) {
	told := ""
	for {
		found, err := Without(ctx, c)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			report(Unknown)
			told = tell(told, "runtime handlers: not known whether they have the hook", err.Error())
		default:
			report(len(found))
			told = tell(told, "runtime handlers: containers start UNJUDGED; fix containerd's configuration, or run set-up again", strings.Join(found, "; "))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// tell logs what was found if it is not what was told last, and gives what is told now.
func tell(told, message, found string) string {
	switch {
	case found == told:
	case found == "":
		slog.Info("runtime handlers: each gives its containers the hook")
	default:
		slog.Error(message, "found", found)
	}
	return found
}

// Without gives one sentence for each runtime handler whose containers would start
// without the hook.
func Without(ctx context.Context, c Config) ([]string, error) {
	all, err := c.handlers(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for name, handler := range all.Runtimes {
		if handler.RuntimeType != hooksRun {
			found = append(found, fmt.Sprintf("handler %q has runtime_type %q, expected %q", name, handler.RuntimeType, hooksRun))
		} else if err := c.hooked(handler.BaseRuntimeSpec); err != nil {
			found = append(found, fmt.Sprintf("handler %q: base_runtime_spec %v", name, err))
		}
	}
	slices.Sort(found)
	return found, nil
}

// With gives one sentence for each runtime handler that gives its containers a hook of
// ours, whichever gate it asks. A base spec that cannot be read may have one: that is an
// error.
func With(ctx context.Context, c Config) ([]string, error) {
	all, err := c.handlers(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for name, handler := range all.Runtimes {
		if handler.BaseRuntimeSpec == "" {
			continue
		}
		hooks, err := hooksOf(handler.BaseRuntimeSpec)
		if err != nil {
			return nil, fmt.Errorf("handler %q: base_runtime_spec %w", name, err)
		}
		if slices.ContainsFunc(hooks, func(h hook) bool { return IsHook(h.Path, c.Hook) }) {
			found = append(found, fmt.Sprintf("handler %q has it by its base_runtime_spec %s", name, handler.BaseRuntimeSpec))
		}
	}
	slices.Sort(found)
	return found, nil
}

// program is how every set-up of ours names the hook.
const program = "countersign-hook"

// IsHook says whether the program of a hook is ours, wherever it lies: by the name that
// gate.json gives it, or by the one that it is built with.
func IsHook(path, configured string) bool {
	name := filepath.Base(path)
	return name == program || name == filepath.Base(configured)
}

// handler is what is read of a runtime handler.
type handler struct {
	RuntimeType     string `json:"runtimeType"`
	BaseRuntimeSpec string `json:"baseRuntimeSpec"`
}

// named are the runtime handlers of a containerd.
type named struct {
	Standard string             `json:"defaultRuntimeName"`
	Runtimes map[string]handler `json:"runtimes"`
}

// handlers asks containerd for the handlers that it runs by.
func (c Config) handlers(ctx context.Context) (*named, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+c.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true))) // one that starts or restarts is waited for
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	response, err := runtimeapi.NewRuntimeServiceClient(conn).Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", c.Address, err)
	}
	var config struct {
		Containerd named `json:"containerd"`
	}
	if err := json.Unmarshal([]byte(response.GetInfo()["config"]), &config); err != nil {
		return nil, fmt.Errorf("containerd at %s: its configuration: %w", c.Address, err)
	}
	if len(config.Containerd.Runtimes) == 0 {
		return nil, fmt.Errorf("containerd at %s: its configuration names no runtime handler", c.Address)
	}
	return &config.Containerd, nil
}

// hooked says why a base spec does not give containers the hook.
func (c Config) hooked(path string) error {
	if path == "" {
		return errors.New("is empty, expected one with the hook")
	}
	hooks, err := hooksOf(path)
	if err != nil {
		return err
	}
	for _, hook := range hooks {
		if hook.Path == c.Hook && len(hook.Args) == 3 && slices.Equal(hook.Args[1:], []string{"--socket", c.Gate}) {
			return nil
		}
	}
	return fmt.Errorf("%s has no createRuntime hook %s that asks %s", path, c.Hook, c.Gate)
}

type hook struct {
	Path string   `json:"path"`
	Args []string `json:"args"`
}

// hooksOf gives the createRuntime hooks of a base spec.
func hooksOf(path string) ([]hook, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxSpec))
	if err != nil {
		return nil, err
	}
	var spec struct {
		Hooks struct {
			CreateRuntime []hook `json:"createRuntime"`
		} `json:"hooks"`
	}
	if err := json.Unmarshal(content, &spec); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return spec.Hooks.CreateRuntime, nil
}
