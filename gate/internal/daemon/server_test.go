package daemon

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// decider answers with what a test says.
type decider struct {
	create func(ctx context.Context, state []byte) *verdict.Verdict
	name   string
	pull   wire.PullRequest
}

func allow() *verdict.Verdict {
	return &verdict.Verdict{Version: verdict.Version, Allow: true, Code: code.OK, Message: "countersign: allowed"}
}

func (d *decider) Create(ctx context.Context, state []byte) *verdict.Verdict {
	return d.create(ctx, state)
}
func (d *decider) Pull(_ context.Context, r wire.PullRequest) *verdict.Verdict {
	d.pull = r
	return allow()
}
func (d *decider) Verify(_ context.Context, name string) *verdict.Verdict {
	d.name = "verify " + name
	return allow()
}
func (d *decider) Explain(_ context.Context, name string) *verdict.Verdict {
	d.name = "explain " + name
	return allow()
}

func (d *decider) PolicyHash() string { return "sha256:policy" }

// serve serves a decider on a new socket until the test ends.
func serve(t *testing.T, d Decider) (socket string, server *Server) {
	t.Helper()
	return serveAt(t, filepath.Join(t.TempDir(), "run", "gate.sock"), d)
}

func serveAt(t *testing.T, socket string, d Decider) (string, *Server) {
	t.Helper()
	listener, lock, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(d, listener)
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	t.Cleanup(func() {
		server.Shutdown()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = lock.Close()
	})
	return socket, server
}

func call(t *testing.T, socket string, op wire.Op, body any) *verdict.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := wire.Call(ctx, socket, op, body)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEveryOperationReachesTheEngine(t *testing.T) {
	var state []byte
	d := &decider{create: func(_ context.Context, s []byte) *verdict.Verdict { state = s; return allow() }}
	socket, _ := serve(t, d)
	if v := call(t, socket, wire.Create, []byte("state")); !v.Allow || string(state) != "state" {
		t.Errorf("create: %+v, %q", v, state)
	}
	want := wire.PullRequest{Name: "n", Digest: "d", MediaType: "m", Size: 7}
	if v := call(t, socket, wire.Pull, want); !v.Allow || d.pull != want {
		t.Errorf("pull: %+v, %+v", v, d.pull)
	}
	if v := call(t, socket, wire.Verify, wire.NameRequest{Name: "x"}); !v.Allow || d.name != "verify x" {
		t.Errorf("verify: %+v, %q", v, d.name)
	}
	if v := call(t, socket, wire.Explain, wire.NameRequest{Name: "x"}); !v.Allow || d.name != "explain x" {
		t.Errorf("explain: %+v, %q", v, d.name)
	}
	if v := call(t, socket, wire.Ping, nil); !v.Allow || v.Policy != "sha256:policy" || v.PID != os.Getpid() {
		t.Errorf("ping: %+v", v)
	}
}

func TestUnreadableRequestsAreRefused(t *testing.T) {
	socket, _ := serve(t, &decider{create: func(context.Context, []byte) *verdict.Verdict { return allow() }})
	for name, request := range map[string]string{
		"unknown":     "halt\n",
		"no line":     "create",
		"nothing":     "",
		"no JSON":     "pull\n<",
		"oversize":    "create\n" + strings.Repeat("x", wire.MaxMessage),
		"very long":   strings.Repeat("x", 100_000),
		"wrong types": "verify\n{\"name\": 1}",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, request) // may fail: the gate stops reading
			_ = conn.(*net.UnixConn).CloseWrite()
			v, err := wire.ReadResponse(conn)
			if err != nil || v.Allow || v.Code != code.Malformed {
				t.Errorf("got %+v, %v", v, err)
			}
		})
	}
}

func TestSilentClientsDoNotStopOthers(t *testing.T) {
	socket, _ := serve(t, &decider{create: func(context.Context, []byte) *verdict.Verdict { return allow() }})
	for range maxConnections - 1 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	start := time.Now()
	if v := call(t, socket, wire.Create, []byte("x")); !v.Allow || time.Since(start) > time.Second {
		t.Errorf("got %+v after %s", v, time.Since(start))
	}
}

func TestMoreRequestsThanSlotsWait(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	socket, _ := serve(t, &decider{create: func(context.Context, []byte) *verdict.Verdict {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		return allow()
	}})
	var group sync.WaitGroup
	for range 2 * maxConnections {
		group.Go(func() {
			if v, err := wire.Call(context.Background(), socket, wire.Create, []byte("x")); err != nil || !v.Allow {
				t.Errorf("got %+v, %v", v, err)
			}
		})
	}
	group.Wait()
	if most > maxConnections {
		t.Errorf("%d at once, expected %d at most", most, maxConnections)
	}
}

func TestClientThatGoesAwayCancelsNothing(t *testing.T) {
	begun, finished := make(chan struct{}), make(chan error, 1)
	socket, _ := serve(t, &decider{create: func(ctx context.Context, _ []byte) *verdict.Verdict {
		close(begun)
		time.Sleep(50 * time.Millisecond)
		finished <- ctx.Err()
		return allow()
	}})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "create\nx")
	_ = conn.(*net.UnixConn).CloseWrite()
	<-begun
	conn.Close()
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	begun := make(chan struct{})
	socket, server := serve(t, &decider{create: func(context.Context, []byte) *verdict.Verdict {
		close(begun)
		time.Sleep(100 * time.Millisecond)
		return allow()
	}})
	answered := make(chan error, 1)
	go func() {
		_, err := wire.Call(context.Background(), socket, wire.Create, []byte("x"))
		answered <- err
	}()
	<-begun
	server.Shutdown()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", socket); err == nil {
		t.Error("it still accepts")
	}
}

func TestAPingTellsThePluginsStateWhereThereIsOne(t *testing.T) {
	socket, server := serve(t, &decider{})
	if v := call(t, socket, wire.Ping, nil); v.NRI != "" {
		t.Errorf("no plugin: %q", v.NRI)
	}
	server.NRI = func() string { return "connected" }
	if v := call(t, socket, wire.Ping, nil); !v.Allow || v.NRI != "connected" {
		t.Errorf("got %+v", v)
	}
}
