package main

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// listenAs makes a socket as another user: the kernel notes who called listen.
func listenAs(t *testing.T, uid int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gate.sock")
	// The thread is not unlocked and so ends with the goroutine, whatever its user is then.
	listeners := make(chan *net.UnixListener, 1)
	failures := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := os.Chown(filepath.Dir(path), uid, -1); err != nil {
			failures <- err
			return
		}
		const keep = ^uintptr(0)
		if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil { // which t.TempDir made for us alone
			failures <- err
			return
		}
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
			failures <- errno
			return
		}
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			failures <- err
			return
		}
		listeners <- listener
	}()
	select {
	case err := <-failures:
		t.Fatal(err)
	case listener := <-listeners:
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.AcceptUnix()
				if err != nil {
					return
				}
				answering("allow OK\nfine\n{}\n")(conn)
				conn.Close()
			}
		}()
	}
	return path
}

func TestOnlyAGateOfRootIsAsked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it needs root, to listen as somebody else")
	}
	t.Run("root's", func(t *testing.T) {
		if status, stderr := run(t, strings.NewReader(state), "--socket", listenAs(t, 0)); status != 0 {
			t.Errorf("exit %d: %s", status, stderr)
		}
	})
	t.Run("another user's", func(t *testing.T) {
		status, stderr := run(t, strings.NewReader(state), "--socket", listenAs(t, 65534))
		if status != 1 || !strings.Contains(stderr, "GATE_DOWN") || !strings.Contains(stderr, "is not root's") {
			t.Errorf("exit %d: %s", status, stderr)
		}
	})
}
