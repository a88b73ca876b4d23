package relay

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// handed gives the status and body of GET path, of a relay before a gate that answers so;
// nil for no gate.
func handed(t *testing.T, gate http.HandlerFunc, path string) (int, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "metrics.sock")
	if gate != nil {
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: gate}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
	}
	listener, err := Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, socket, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	response, err := http.Get("http://" + listener.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestWhatTheGateServesIsHandedOn(t *testing.T) {
	serves := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" || r.Host != "gate" {
			http.NotFound(w, r)
		}
		_, _ = io.WriteString(w, "countersign_policy_valid 1\n")
	}
	if status, body := handed(t, serves, "/metrics"); status != http.StatusOK || body != "countersign_policy_valid 1\n" {
		t.Errorf("got %d %q", status, body)
	}
	if status, _ := handed(t, serves, "/debug/pprof"); status != http.StatusNotFound {
		t.Errorf("another path: got %d", status)
	}
}

func TestAGateThatDoesNotServeIsDown(t *testing.T) {
	for name, gate := range map[string]http.HandlerFunc{
		"none":    nil,
		"failing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("#\n", maxMetrics))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if status, body := handed(t, gate, "/metrics"); status != http.StatusBadGateway || body != "the gate does not answer\n" {
				t.Errorf("got %d %q", status, body)
			}
		})
	}
}
