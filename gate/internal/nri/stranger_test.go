package nri

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/peer"
)

const listensOn = "COUNTERSIGN_TEST_LISTENS_ON"

// TestMain makes this program a runtime of its own where a test asks for one.
func TestMain(m *testing.M) {
	if path := os.Getenv(listensOn); path != "" {
		l, err := net.Listen("unix", path)
		for err == nil {
			_, err = l.Accept()
		}
		panic(err)
	}
	os.Exit(m.Run())
}

// listens has a process listen on a socket: this one, which serves NRI as well, or another.
func listens(t *testing.T, socket string, other bool) (stop func()) {
	t.Helper()
	if !other {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return func() { _ = l.Close() }
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), listensOn+"="+socket)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { _ = c.Process.Kill(); _ = c.Wait(); _ = os.Remove(socket) }
	t.Cleanup(stop)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if pid, err := peer.Listener(context.Background(), socket); err == nil && pid == c.Process.Pid {
			return stop
		}
		if time.Now().After(end) {
			t.Fatal("the other process does not listen")
		}
	}
}

func watching(t *testing.T, nri, own string) *Plugin {
	t.Helper()
	p, _ := started(t, Config{Socket: nri, Runtime: own, Hook: hook, Gate: gate, Runs: always})
	return p
}

func TestOnlyTheRuntimeThatListensOnItsOwnSocketCounts(t *testing.T) {
	folder := t.TempDir()
	socket, own := filepath.Join(folder, "nri.sock"), filepath.Join(folder, "runtime.sock")
	runtime(t, socket)
	stop := listens(t, own, true)
	err := OfRuntime(socket, own)
	if err == nil || !strings.Contains(err.Error(), "another runtime serves this NRI socket") {
		t.Fatalf("got %v, expected that another runtime is named", err)
	}
	p := watching(t, socket, own)
	_, session := p.session(context.Background())
	if session == nil || session.Error() != err.Error() {
		t.Fatalf("got %v, expected %v", session, err)
	}
	if p.State() != Disconnected {
		t.Fatalf("the plugin is %s beside another runtime, expected %s", p.State(), Disconnected)
	}
	stop()
	listens(t, own, false)
	if err := OfRuntime(socket, own); err != nil {
		t.Fatal(err)
	}
	becomes(t, p, Connected)
}

func TestARuntimeThatTurnsOutToBeAnotherIsLeft(t *testing.T) {
	folder := t.TempDir()
	socket, own := filepath.Join(folder, "nri.sock"), filepath.Join(folder, "runtime.sock")
	runtime(t, socket)
	p := watching(t, socket, own)
	becomes(t, p, Connected) // nobody listens there yet
	listens(t, own, true)
	becomes(t, p, Disconnected)
}
