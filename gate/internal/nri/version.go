package nri

import (
	"debug/buildinfo"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

const module = "github.com/containerd/nri"

// runtimesNRI gives the version of the NRI that the runtime at the other end of a
// connection was built with, or "" where that can't be told. NRI itself tells only
// the runtime's version; a failure policy, for one, is honoured from 0.12.4.
func runtimesNRI(conn net.Conn) string {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ""
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || peerErr != nil {
		return ""
	}
	return builtWith(fmt.Sprintf("/proc/%d/exe", peer.Pid))
}

// builtWith gives the version of NRI in a Go program, or "".
func builtWith(program string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return ""
}
