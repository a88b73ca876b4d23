package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another gate serves the socket.
var ErrInUse = errors.New("another gate serves this socket")

// Listen makes the gate's socket, mode 0600, in a folder that only its owner can
// enter. A lock beside it tells a socket in use from one that a crash left
// behind; closing the lock's file gives it back.
func Listen(path string) (listener *net.UnixListener, lock *os.File, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, err
	}
	lock, err = os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		err = fmt.Errorf("%s: %w (%w)", path, ErrInUse, err)
	} else {
		listener, err = listenPrivate(path)
	}
	if err != nil {
		_ = lock.Close()
		return nil, nil, err
	}
	return listener, lock, nil
}

// listenPrivate replaces a stale socket at path. Anything else there is left alone.
func listenPrivate(path string) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is there and is not a socket", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// The umask makes the socket private from its first moment; nothing else
	// makes files yet.
	old := unix.Umask(0o177)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	return listener, err
}
