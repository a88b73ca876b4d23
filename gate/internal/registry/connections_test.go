package registry_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// A registry that is asked often may not fill the node with connections to it.
func TestALookUpLeavesNoConnectionBehind(t *testing.T) {
	var begun, open atomic.Int64
	server := httptest.NewUnstartedServer(testsign.Handler(true))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			begun.Add(1)
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	pusher := testsign.Pusher{Handler: server.Config.Handler, Path: "demo/app"}
	digest := pusher.Image(t, "image")
	repository := strings.TrimPrefix(server.URL, "http://") + "/demo/app"
	if set, err := registry.New(registry.Config{}).Fetch(t.Context(), repository, digest, nil); err != nil || set.Manifest == nil {
		t.Fatalf("manifest %v, %v", set.Manifest != nil, err)
	}
	for deadline := time.Now().Add(10 * time.Second); open.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) { // an idle connection would stay for 30 s
			t.Fatalf("%d of %d connections are still open", open.Load(), begun.Load())
		}
	}
	if begun.Load() == 0 {
		t.Error("no connection was counted")
	}
}
