package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells the service manager how the service is (sd_notify(3)). Without
// one it does nothing.
type Notifier struct {
	socket   string
	interval time.Duration // of the watchdog; 0: none
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID through getenv.
func NewNotifier(getenv func(string) string) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	pid := getenv("WATCHDOG_PID")
	if micros, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.interval = time.Duration(micros) * time.Microsecond
	}
	return n
}

// Ready says that requests are served.
func (n *Notifier) Ready() { n.send("READY=1") }

// MainPID says that another process is the service from now on.
func (n *Notifier) MainPID(pid int) { n.send(fmt.Sprintf("MAINPID=%d", pid)) }

// Status gives the line that the service manager shows.
func (n *Notifier) Status(text string) { n.send("STATUS=" + text) }

// Stopping says that the service ends.
func (n *Notifier) Stopping() { n.send("STOPPING=1") }

// Reloading says that a new policy is being put in force; Ready ends it.
func (n *Notifier) Reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		slog.Warn("monotonic clock", "error", err)
		return
	}
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// Watch feeds the watchdog for as long as alive says nil, which asks the real
// socket: a loop that hangs is not fed for.
func (n *Notifier) Watch(ctx context.Context, alive func(context.Context) error) {
	if n.socket == "" || n.interval == 0 {
		return
	}
	ticker := time.NewTicker(n.interval / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			check, cancel := context.WithTimeout(ctx, n.interval/3)
			err := alive(check)
			cancel()
			if err != nil {
				slog.Error("the gate does not answer itself", "error", err)
				continue
			}
			n.send("WATCHDOG=1")
		}
	}
}

func (n *Notifier) send(state string) {
	if n.socket == "" {
		return
	}
	address := n.socket
	if address[0] == '@' { // an abstract socket
		address = "\x00" + address[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		slog.Warn("service manager not told", "state", state, "error", err)
	}
}
