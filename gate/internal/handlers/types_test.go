package handlers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// crioSaying is the socket of a CRI-O that tells a configuration.
func crioSaying(t *testing.T, config string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "crio.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(config)) })}
	go func() { _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return socket
}

func TestARuntimeThatMayRunNoHooksIsTold(t *testing.T) {
	_, containerd := serve(t, `{"containerd": {"defaultRuntimeName": "runc", "runtimes": {
		"runc": {"runtimeType": "io.containerd.runc.v2"}, "kata": {"runtimeType": "io.containerd.kata.v2"}}}}`)
	_, vms := serve(t, `{"containerd": {"defaultRuntimeName": "kata", "runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}}`)
	crio := crioSaying(t, `
[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_type = ""
[crio.runtime.runtimes.runc]
runtime_type = "oci"
[crio.runtime.runtimes.rs]
runtime_type = "pod"
[crio.runtime.runtimes.kata]
runtime_type = "vm"
[crio.runtime.runtimes.later]
runtime_type = "wasm"
`)
	const unsupported = "UNSUPPORTED_RUNTIME: its runtime handler"
	for _, test := range []struct {
		types         *Types
		handler, says string
	}{
		{OfContainerd(containerd.Address), "", ""},
		{OfContainerd(containerd.Address), "runc", ""},
		{OfContainerd(containerd.Address), "kata", unsupported},
		{OfContainerd(containerd.Address), "other", "UNSUPPORTED_RUNTIME: the runtime's configuration has no handler"},
		{OfContainerd(vms.Address), "", unsupported},
		{OfCrio(crio), "", ""},
		{OfCrio(crio), "runc", ""},
		{OfCrio(crio), "rs", ""},
		{OfCrio(crio), "kata", unsupported},
		{OfCrio(crio), "later", unsupported},
		{OfCrio(crio), "other", "UNSUPPORTED_RUNTIME: the runtime's configuration has no handler"},
		{OfCrio(crioSaying(t, "[crio")), "", "RUNTIME_UNREACHABLE: "},
		{OfCrio(crioSaying(t, "")), "", "UNSUPPORTED_RUNTIME: "},
		{OfCrio(filepath.Join(t.TempDir(), "none.sock")), "", "RUNTIME_UNREACHABLE: "},
	} {
		err := test.types.RunHooks(t.Context(), test.handler)
		if (err == nil) != (test.says == "") || err != nil && !strings.HasPrefix(err.Error(), test.says) {
			t.Errorf("handler %q: %v, expected %q", test.handler, err, test.says)
		}
	}
}

func TestWhatARuntimeSaidOfItsHandlersCountsForAWhile(t *testing.T) {
	asked, kind := 0, "good"
	var broken error
	types := &Types{runs: []string{"good"}, ask: func(context.Context) (table, error) {
		asked++
		return table{types: map[string]string{"one": kind, fmt.Sprint(asked): kind}, standard: "one"}, broken
	}}
	right := func(handler string, questions int) {
		t.Helper()
		if err := types.RunHooks(t.Context(), handler); err != nil || asked != questions {
			t.Errorf("%v, asked %d times, expected %d", err, asked, questions)
		}
	}
	right("", 1)
	right("one", 1)
	right("2", 2) // a new one
	types.asked = types.asked.Add(-Every - time.Second)
	kind = "bad"
	if err := types.RunHooks(t.Context(), "one"); err == nil || asked != 3 {
		t.Errorf("one that was changed: %v, asked %d times", err, asked)
	}
	kind, broken = "good", errors.New("it does not answer")
	types.asked = types.asked.Add(-Every - time.Second)
	if err := types.RunHooks(t.Context(), "one"); err == nil || !strings.HasPrefix(err.Error(), "RUNTIME_UNREACHABLE") {
		t.Errorf("one that is not told any more: %v", err)
	}
	broken = nil
	right("one", 5)
}
