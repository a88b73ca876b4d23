package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"countersign/gate/internal/verdict"
)

func TestSocketIsPrivate(t *testing.T) {
	socket, _ := serve(t, &decider{})
	for path, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, expected %o", path, info.Mode().Perm(), want)
		}
	}
}

func TestListen(t *testing.T) {
	t.Run("in use", func(t *testing.T) {
		socket, _ := serve(t, &decider{})
		if _, _, err := Listen(socket); !errors.Is(err, ErrInUse) {
			t.Errorf("got %v, expected %v", err, ErrInUse)
		}
	})
	t.Run("stale", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "gate.sock")
		old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		old.Close()
		listener, lock, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		_ = lock.Close()
	})
	t.Run("a file in its place", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "gate.sock")
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Listen(path); err == nil {
			t.Error("it listens")
		}
		if content, _ := os.ReadFile(path); string(content) != "mine" {
			t.Error("the file is gone")
		}
	})
}

func TestOnlyTheGatesUserMayConnect(t *testing.T) {
	if err := allowedPeer(uint32(os.Geteuid())); err != nil {
		t.Error(err)
	}
	if err := allowedPeer(uint32(os.Geteuid()) + 1); err == nil {
		t.Error("another user may ask")
	}
}

func TestConnectionOfAnotherUserGetsNoAnswer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	var asked atomic.Bool
	dir, err := os.MkdirTemp("/tmp", "gate") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, _ := serveAt(t, filepath.Join(dir, "gate.sock"), &decider{create: func(context.Context, []byte) *verdict.Verdict {
		asked.Store(true)
		return allow()
	}})
	// The modes alone would keep others out: open them, to see the second line.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its user
		const keep, nobody = ^uintptr(0), 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, nobody, keep); errno != 0 {
			done <- errno
			return
		}
		_, err := rawCall(socket, "create\nx")
		done <- err
	}()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "no answer") || asked.Load() {
		t.Errorf("got %v, asked %v", err, asked.Load())
	}
	if answer, err := rawCall(socket, "create\nx"); err != nil || !strings.HasPrefix(answer, "allow OK\n") {
		t.Errorf("the gate's own user: got %q, %v", answer, err)
	}
}

// rawCall asks from the very thread that calls it, which the net package does not promise.
func rawCall(socket, request string) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return "", err
	}
	_, _ = unix.Write(fd, []byte(request)) // may fail: the gate may have hung up
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	buffer := make([]byte, 4096)
	n, err := unix.Read(fd, buffer)
	if n <= 0 {
		return "", fmt.Errorf("no answer: %v", err)
	}
	return string(buffer[:n]), nil
}
