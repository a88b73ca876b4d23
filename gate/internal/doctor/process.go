package doctor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"countersign/gate/internal/peer"
)

const (
	patience = 10 * time.Second
	// ticks a second, in which the kernel tells when a process started (proc_pid_stat(5)).
	ticks = 100
	// startField is its field, counted after the command's closing bracket.
	startField = 19
)

// program is the file that a process runs, even where another lies at its path.
func program(pid int) string { return fmt.Sprintf("/proc/%d/exe", pid) }

// listenerOf gives the process that listens on a unix socket.
func listenerOf(socket string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return peer.Listener(ctx, socket)
}

// arguments gives a process's command line.
func arguments(pid int) ([]string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00"), nil
}

// environment gives a variable of a process, as it was at its start.
func environment(pid int, name string) string {
	content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // what can't be read has none
	for _, each := range bytes.Split(content, []byte{0}) {
		if key, value, _ := strings.Cut(string(each), "="); key == name {
			return value
		}
	}
	return ""
}

// started gives the moment at which a process began, to a tick.
func started(pid int) (time.Time, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}, err
	}
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) <= startField {
		return time.Time{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	since, err := strconv.ParseInt(fields[startField], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(time.Duration(since)*time.Second/ticks - time.Duration(boot.Nano())), nil
}

// unitOf gives the systemd unit of a process, or "".
func unitOf(pid int) string {
	content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // what can't be read has none
	for _, part := range strings.Split(strings.TrimSpace(string(content)), "/") {
		if name := strings.TrimSpace(part); strings.HasSuffix(name, ".service") {
			return name
		}
	}
	return ""
}

// restart says how a service starts again: set-up also mends what it would read.
func (n *Node) restart(unit, name string) string {
	if unit == "" {
		return n.options.again("restart " + name)
	}
	return n.options.again("systemctl restart " + unit)
}

// changed gives when a file was last changed, or moved to its place.
func changed(path string) (time.Time, error) {
	var seen unix.Stat_t
	if err := unix.Stat(path, &seen); err != nil {
		return time.Time{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return time.Unix(seen.Ctim.Unix()), nil
}

// absolute resolves a path of a process's command line.
func absolute(pid int, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	folder, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return path
	}
	return filepath.Join(folder, path)
}
