// Package peer tells which process is at the other end of a unix socket.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// ErrHidden is of a process in another PID namespace, which can't be told.
var ErrHidden = errors.New("who listens there can't be seen from here")

// Of gives the process and the user at the other end of a connection: for a connection that was
// dialled, who listens there (unix(7), SO_PEERCRED).
func Of(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	return peer, peerErr
}

// Listener gives the process that listens on a unix socket.
func Listener(ctx context.Context, socket string) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	return process(conn.(*net.UnixConn), socket)
}

func process(conn *net.UnixConn, socket string) (int, error) {
	peer, err := Of(conn)
	if err != nil {
		return 0, err
	}
	if peer.Pid <= 0 {
		return 0, fmt.Errorf("%s: %w", socket, ErrHidden)
	}
	return int(peer.Pid), nil
}

// SameProcess says whether the process at the other end of a connection also listens on a socket.
// It is an error when that can't be told.
func SameProcess(ctx context.Context, conn *net.UnixConn, socket string) (bool, error) {
	one, err := process(conn, conn.RemoteAddr().String())
	if err != nil {
		return false, err
	}
	other, err := Listener(ctx, socket)
	return one == other, err
}
