package bounded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := File(path, 4); string(got) != "four" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := File(path, 3); !errors.Is(err, ErrLarge) || !strings.Contains(err.Error(), "over 3 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := File(dir, 4); err == nil {
		t.Error("a folder was read")
	}
}

// What comes out of a pipe is read, as shells give the output of a command; for a named
// one that nobody writes to nobody waits.
func TestAPipeIsNotWaitedFor(t *testing.T) {
	t.Run("somebody writes", func(t *testing.T) {
		from, to, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		go func() {
			_, _ = to.WriteString("key")
			_ = to.Close()
		}()
		if got, err := File(fmt.Sprintf("/proc/self/fd/%d", from.Fd()), 100); string(got) != "key" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("nobody writes", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		keep := time.AfterFunc(2*time.Second, func() { // or it would wait for ever
			if writer, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
				_ = writer.Close()
			}
		})
		defer keep.Stop()
		began := time.Now()
		if got, err := File(path, 100); err == nil || !strings.Contains(err.Error(), "nobody writes to") || time.Since(began) > time.Second {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
