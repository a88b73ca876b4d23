package handlers

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const spec = `{"hooks": {"createRuntime": [{"path": "/bin/other"}, {"path": "/bin/hook", "args": ["hook", "--socket", "/run/gate.sock"]}]}}`

// runtime is a containerd that tells a configuration.
type runtime struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	config atomic.Pointer[string]
}

func (r *runtime) Status(_ context.Context, request *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	response := &runtimeapi.StatusResponse{}
	if request.GetVerbose() {
		response.Info = map[string]string{"config": *r.config.Load()}
	}
	return response, nil
}

func serve(t *testing.T, config string) (*runtime, Config) {
	t.Helper()
	r := &runtime{}
	r.config.Store(&config)
	c := Config{Address: filepath.Join(t.TempDir(), "c.sock"), Hook: "/bin/hook", Gate: "/run/gate.sock"}
	listener, err := net.Listen("unix", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, r)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return r, c
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configured gives what containerd tells of two handlers, the second as it is given.
func configured(t *testing.T, kind, path string) string {
	t.Helper()
	return fmt.Sprintf(`{"containerd": {"runtimes": {"runc": {"runtimeType": %q, "baseRuntimeSpec": %q}, "added": {"runtimeType": %q, "baseRuntimeSpec": %q}}}}`,
		hooksRun, file(t, spec), kind, path)
}

func TestHandlersWithoutTheHookAreFound(t *testing.T) {
	for _, test := range []struct{ name, kind, path, says string }{
		{"the hook is there", hooksRun, file(t, spec), ""},
		{"no base spec", hooksRun, "", "is empty"},
		{"no such file", hooksRun, "/nowhere/spec.json", "no such file"},
		{"no JSON", hooksRun, file(t, spec[:len(spec)/2]), "unexpected end"},
		{"no hooks", hooksRun, file(t, `{"process": {}}`), "no createRuntime hook"},
		{"another program", hooksRun, file(t, strings.Replace(spec, "/bin/hook", "/bin/true", 1)), "no createRuntime hook"},
		{"another gate", hooksRun, file(t, strings.Replace(spec, "/run/gate.sock", "/tmp/gate.sock", 1)), "no createRuntime hook"},
		{"more arguments", hooksRun, file(t, strings.Replace(spec, `gate.sock"]`, `gate.sock", "--more"]`, 1)), "no createRuntime hook"},
		{"another stage", hooksRun, file(t, strings.Replace(spec, "createRuntime", "poststop", 1)), "no createRuntime hook"},
		{"a runtime whose hooks nobody tried", "io.containerd.kata.v2", file(t, spec), "runtime_type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, c := serve(t, configured(t, test.kind, test.path))
			found, err := Without(context.Background(), c)
			if err != nil {
				t.Fatal(err)
			}
			if test.says == "" {
				if len(found) != 0 {
					t.Errorf("got %q", found)
				}
				return
			}
			if len(found) != 1 || !strings.Contains(found[0], `handler "added"`) || !strings.Contains(found[0], test.says) {
				t.Errorf("got %q, expected one that says %q", found, test.says)
			}
		})
	}
}

func TestWhatContainerdDoesNotTellIsNotTakenForGood(t *testing.T) {
	for _, config := range []string{"", "{}", `{"containerd": {"runtimes": {}}}`, `{"containerd": []}`} {
		_, c := serve(t, config)
		if found, err := Without(context.Background(), c); err == nil {
			t.Errorf("%q: got %q and no error", config, found)
		}
	}
	nobody := Config{Address: filepath.Join(t.TempDir(), "c.sock")}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := Without(ctx, nobody); err == nil {
		t.Error("nobody listens, and no error")
	}
}

func TestAHandlerThatIsAddedIsToldAndSoIsItsEnd(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	good, bad := configured(t, hooksRun, file(t, spec)), configured(t, hooksRun, "")
	r, c := serve(t, good)
	ctx, cancel := context.WithCancel(context.Background())
	reports, done := make(chan int), make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, c, time.Millisecond, func(n int) {
			select {
			case reports <- n:
			case <-ctx.Done():
			}
		})
	}()
	becomes := func(config string, want int) {
		t.Helper()
		r.config.Store(&config)
		for n := range reports {
			if n == want {
				return
			}
		}
	}
	becomes(good, 0)
	becomes(bad, 1)
	becomes("", Unknown)
	becomes(good, 0)
	cancel()
	<-done
	for _, want := range []string{"UNJUDGED", `handler \"added\": base_runtime_spec is empty`, "not known", "each gives its containers the hook"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "UNJUDGED"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestHandlersWithAHookOfOursAreFound(t *testing.T) {
	for _, test := range []struct{ name, path, says, fails string }{
		{"the hook", file(t, spec), `handler "added" has it`, ""},
		{"the hook in another place, which asks another gate", file(t, strings.Replace(spec, `"/bin/hook", "args": ["hook", "--socket", "/run/gate.sock"]`, `"/opt/hook", "args": []`, 1)), `handler "added" has it`, ""},
		{"the hook under the name that it is built with", file(t, strings.Replace(spec, "/bin/hook", "/opt/countersign-hook", 1)), `handler "added" has it`, ""},
		{"no base spec", "", "", ""},
		{"other hooks", file(t, strings.Replace(spec, "/bin/hook", "/bin/true", 1)), "", ""},
		{"no such file", "/nowhere/spec.json", "", "no such file"},
		{"no JSON", file(t, spec[:len(spec)/2]), "", "unexpected end"},
	} {
		config := fmt.Sprintf(`{"containerd": {"runtimes": {"runc": {"runtimeType": %q}, "added": {"runtimeType": %q, "baseRuntimeSpec": %q}}}}`, hooksRun, hooksRun, test.path)
		_, c := serve(t, config)
		found, err := With(t.Context(), c)
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%s: got %v, %v", test.name, found, err)
			}
			continue
		}
		if err != nil || (test.says == "") != (len(found) == 0) || !strings.Contains(strings.Join(found, "; "), test.says) {
			t.Errorf("%s: got %v, %v", test.name, found, err)
		}
	}
}
