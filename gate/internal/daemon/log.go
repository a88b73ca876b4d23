package daemon

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"countersign/gate/internal/verdict"
)

// Log writes one JSON line per verdict.
type Log struct {
	mu     sync.Mutex
	path   string
	writer io.WriteCloser
}

// OpenLog opens the verdict log: a file of mode 0600, or stdout for "-".
func OpenLog(path string) (*Log, error) {
	l := &Log{path: path}
	return l, l.Reopen()
}

// Reopen opens the file anew, for log rotation.
func (l *Log) Reopen() error {
	writer, err := openLog(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.writer
	l.writer = writer
	l.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func openLog(path string) (io.WriteCloser, error) {
	if path == "-" || path == "" {
		return keepOpen{os.Stdout}, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// Write adds a verdict. A verdict that can't be logged still stands: it goes to
// stderr with the reason.
func (l *Log) Write(v *verdict.Verdict) {
	short := *v
	short.Steps = nil
	line, err := json.Marshal(&short)
	if err == nil {
		l.mu.Lock()
		_, err = l.writer.Write(append(line, '\n'))
		l.mu.Unlock()
	}
	if err != nil {
		slog.Error("verdict not logged", "verdict", string(line), "error", err)
	}
}

// keepOpen is stdout, which is not ours to close.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }
