package bounded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrLarge says that a file is over its bound.
var ErrLarge = errors.New("too large")

// Open opens a file for reading, and does not wait for somebody to write to a pipe: a
// named one in the place of a policy or a key would hold up whoever reads it for ever.
func Open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// File reads a file, or what comes out of a pipe, of at most limit bytes: more is ErrLarge.
func File(path string, limit int64) ([]byte, error) {
	file, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(content)) > limit:
		return nil, fmt.Errorf("%s: %w: over %d bytes", path, ErrLarge, limit)
	case len(content) == 0 && isPipe(file):
		return nil, fmt.Errorf("%s is a pipe that nobody writes to", path)
	}
	return content, nil
}

func isPipe(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}
