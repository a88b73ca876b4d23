package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"countersign/gate/internal/verdict"
)

// Log writes one JSON line per verdict. Before its file would grow over maxBytes,
// it becomes PATH.1, the one before PATH.2, and so on to PATH.keep.
type Log struct {
	path     string
	maxBytes int64
	keep     int

	mu     sync.Mutex
	file   *os.File
	size   int64
	due    int64 // the size at which the file is moved away
	broken bool  // the last write ended within a line
}

// OpenLog opens the verdict log: a file of mode 0600, or stdout for "-", which has
// no bound.
func OpenLog(path string, maxBytes int64, keep int) (*Log, error) {
	l := &Log{path: path, maxBytes: maxBytes, keep: keep}
	return l, l.Reopen()
}

// Reopen opens the file anew, for who moves it away from outside.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reopen()
}

func (l *Log) stdout() bool { return l.path == "-" || l.path == "" }

func (l *Log) reopen() error {
	if l.stdout() {
		l.file = os.Stdout
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	old := l.file
	l.file, l.size, l.due, l.broken = file, info.Size(), l.maxBytes, false
	if old != nil {
		return old.Close()
	}
	return nil
}

// Write adds a verdict. A verdict that can't be logged still stands: it goes to
// stderr with the reason, which is returned too.
func (l *Log) Write(v *verdict.Verdict) error {
	short := *v
	short.Steps = nil
	line, err := json.Marshal(&short)
	if err == nil {
		err = l.add(append(line, '\n'))
	}
	if err != nil {
		slog.Error("VERDICT NOT LOGGED", "verdict", string(line), "error", err)
	}
	return err
}

func (l *Log) add(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		line = append([]byte("\n"), line...) // or it would go with the rest of a line that a full disk cut off
	}
	if !l.stdout() && l.size > 0 && l.size+int64(len(line)) > l.due {
		if err := l.rotate(); err != nil {
			slog.Error("verdict log not rotated; it grows", "path", l.path, "error", err)
			l.due = l.size + l.maxBytes/8 // then once more
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	if n > 0 {
		l.broken = err != nil
	}
	return err
}

// rotate moves the files one place on and opens a new one. Nothing is lost whatever
// fails: until a new file is open, the old one is written to under its new name.
func (l *Log) rotate() error {
	// Of two gates in a hand-over one moves the files at a time: who had to wait finds the
	// file moved away. The lock ends with the file, or here where that stays in use.
	locked := l.file
	if err := unix.Flock(int(locked.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	defer func() {
		if l.file == locked {
			_ = unix.Flock(int(locked.Fd()), unix.LOCK_UN)
		}
	}()
	ours, err := l.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.reopen()
	case err != nil:
		return err
	case !os.SameFile(ours, there):
		return l.reopen() // the other gate of a hand-over, or somebody else, has moved it
	}
	for i := l.keep; i > 0; i-- {
		from := l.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", l.path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", l.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return l.reopen()
}
