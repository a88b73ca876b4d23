package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// HandoverEnv has the number of the process that hands over, of which only a child
// believes the rest: "plugin" where its NRI plugin is connected, "metrics" where it
// passes a socket for them on.
const HandoverEnv = "COUNTERSIGN_HANDOVER"

const (
	// patience is how long the next gate may take until it can serve.
	patience = 45 * time.Second
	// What the next gate finds as files 3 to 5, and 6 where there are metrics.
	listenerFile = 3
	lockFile     = 4
	lineFile     = 5
	metricsFile  = 6

	withPlugin, withMetrics = "plugin", "metrics"

	leaving = 'l' // the next gate asks that this one's plugin leave NRI, and is told that it has
	ready   = 'r' // the next gate says that it can serve
	goAhead = 'g' // and is told to
	// displaced is how long the gate before may take to leave NRI: the runtime waits.
	displaced = time.Second
)

// Plugin is a gate's place among the runtime's NRI plugins.
type Plugin interface {
	Registered() bool
	Leave()
	Return()
}

// Sockets is what a gate serves on, made by it or taken over from the gate before.
// Between two gates the sockets stay open: who connects waits, and is not refused.
type Sockets struct {
	Listener *net.UnixListener
	Metrics  net.Listener // nil for none

	lock        *os.File
	line        *os.File // to the gate before; nil where there is none
	pluginFirst bool

	talk  sync.Mutex // one word on the line and its answer at a time
	alone bool       // the gate before has handed over
}

// OpenSockets makes the sockets, or takes those over that the gate before left.
func OpenSockets(getenv func(string) string, socket, metrics string) (*Sockets, error) {
	if from := strings.Fields(getenv(HandoverEnv)); len(from) > 0 && from[0] == strconv.Itoa(os.Getppid()) {
		return inherit(socket, metrics, from[1:])
	}
	listener, lock, err := Listen(socket)
	if err != nil {
		return nil, err
	}
	s := &Sockets{Listener: listener, lock: lock}
	if s.Metrics, err = ListenMetrics(metrics); err != nil {
		return nil, errors.Join(fmt.Errorf("metrics: %w", err), s.Close())
	}
	return s, nil
}

func inherit(socket, metrics string, with []string) (*Sockets, error) {
	s := &Sockets{lock: inherited(lockFile, "lock"), line: inherited(lineFile, "line"), pluginFirst: slices.Contains(with, withPlugin)}
	listener, err := listenerOf(listenerFile)
	if err != nil {
		return nil, fmt.Errorf("hand-over: socket: %w", err)
	}
	var ours bool
	if s.Listener, ours = listener.(*net.UnixListener); !ours || s.Listener.Addr().String() != socket {
		return nil, fmt.Errorf("hand-over: the gate before serves %s, gate.json says %s; restart the service instead", listener.Addr(), socket)
	}
	if slices.Contains(with, withMetrics) {
		if s.Metrics, err = listenerOf(metricsFile); err != nil {
			return nil, fmt.Errorf("hand-over: metrics: %w", err)
		}
		if address := s.Metrics.Addr().String(); metrics == address || metrics == "unix:"+address {
			return s, nil
		}
		if err := s.Metrics.Close(); err != nil { // gate.json has another address now
			return nil, fmt.Errorf("hand-over: metrics: %w", err)
		}
	}
	if s.Metrics, err = ListenMetrics(metrics); err != nil {
		return nil, fmt.Errorf("hand-over: metrics: %w", err)
	}
	return s, nil
}

func inherited(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

func listenerOf(fd int) (net.Listener, error) {
	file := inherited(fd, "socket")
	defer func() { _ = file.Close() }() // the listener has a copy
	return net.FileListener(file)
}

// Displace has the gate before leave NRI, where there still is one, and returns once it
// has closed its connection.
func (s *Sockets) Displace() error {
	s.talk.Lock()
	defer s.talk.Unlock()
	if s.alone {
		return nil
	}
	err := s.line.SetDeadline(time.Now().Add(displaced))
	if err == nil {
		err = s.told(leaving, leaving)
	}
	if err != nil {
		return fmt.Errorf("hand-over: the gate before did not leave NRI: %w", err)
	}
	return s.line.SetDeadline(time.Time{})
}

// told says a word to the gate before, and waits for its answer.
func (s *Sockets) told(word, expected byte) error {
	answer := []byte{word}
	_, err := s.line.Write(answer)
	if err == nil {
		_, err = s.line.Read(answer)
	}
	if err == nil && answer[0] != expected {
		err = fmt.Errorf("it answered %q", answer)
	}
	return err
}

// Await is called when this gate can serve. It returns once the gate before has
// told the service manager of it, and stops accepting. Where there is none it
// returns at once.
func (s *Sockets) Await() error {
	if s.line == nil {
		return nil
	}
	s.talk.Lock()
	defer s.talk.Unlock()
	before := os.Getppid()
	if err := s.told(ready, goAhead); err != nil {
		return fmt.Errorf("the gate before went away before it had handed over: %w", err)
	}
	s.alone = true
	unlinkOnClose(s.Listener, true) // only now: a gate that takes nothing over leaves the files alone
	unlinkOnClose(s.Metrics, true)
	go dieWithParent(before)
	return nil
}

// TakenOver says that they were another gate's, which serves until Await returns.
func (s *Sockets) TakenOver() bool { return s.line != nil }

// PluginFirst says that the gate before has its NRI plugin connected, so that this
// one's has to be before it serves.
func (s *Sockets) PluginFirst() bool { return s.pluginFirst }

// dieWithParent has this gate end with its supervisor, as the gate before did: what
// is set before that one is gone would end this one with it.
func dieWithParent(before int) {
	for os.Getppid() == before {
		time.Sleep(10 * time.Millisecond)
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) // fails on no valid signal
}

// HandOver starts the program at path as the next gate, and returns once it can
// serve and tell(pid) has told the service manager. From then on this gate must
// accept no more. On an error nothing has changed, and nothing is left.
func (s *Sockets) HandOver(ctx context.Context, path string, args []string, plugin Plugin, tell func(pid int)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	// Kept open to the end: that is how the next gate knows that we are there.
	line := os.NewFile(uintptr(pair[0]), "line")
	stop := context.AfterFunc(ctx, func() { _ = line.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	pid, err := s.spawn(path, args, plugin.Registered(), pair[1])
	_ = unix.Close(pair[1])
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), line.Close())
	}
	left, err := makeRoom(line, plugin)
	if err == nil {
		tell(pid)
		unlinkOnClose(s.Listener, false)
		unlinkOnClose(s.Metrics, false)
		if _, err = line.Write([]byte{goAhead}); err == nil {
			return nil
		}
		unlinkOnClose(s.Listener, true)
		unlinkOnClose(s.Metrics, true)
		tell(os.Getpid())
	}
	_ = unix.Kill(pid, unix.SIGKILL) // it may have ended: until Wait4 the number is its own
	var status unix.WaitStatus
	_, waitErr := unix.Wait4(pid, &status, 0, nil)
	if left {
		plugin.Return()
	}
	return errors.Join(fmt.Errorf("%s did not come to serve within %s; its own words are above: %w", path, patience, err), waitErr, line.Close())
}

// makeRoom has the plugin leave NRI when the next gate asks for its place, and
// returns once that gate can serve.
func makeRoom(line *os.File, plugin Plugin) (left bool, err error) {
	for word := make([]byte, 1); ; {
		if _, err := line.Read(word); err != nil {
			return left, err
		}
		switch {
		case word[0] == ready:
			return left, nil
		case word[0] != leaving || left:
			return left, fmt.Errorf("it said %q", word)
		}
		plugin.Leave()
		left = true
		if _, err := line.Write(word); err != nil {
			return left, err
		}
	}
}

// spawn starts the next gate. Package os/exec would put our listener, which shares
// its flags with the copy, into blocking mode.
func (s *Sockets) spawn(path string, args []string, plugin bool, line int) (pid int, err error) {
	from := fmt.Sprintf("%s=%d", HandoverEnv, os.Getpid())
	if plugin {
		from += " " + withPlugin
	}
	if s.Metrics != nil {
		from += " " + withMetrics
	}
	env := []string{from}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); name != HandoverEnv && name != "WATCHDOG_PID" {
			env = append(env, variable)
		}
	}
	files := []uintptr{0, 1, 2}
	fork := func(fd uintptr) {
		files = append(files, fd, s.lock.Fd(), uintptr(line))
		start := func(fds ...uintptr) {
			pid, err = syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{Env: env, Files: append(files, fds...)})
		}
		metrics, has := s.Metrics.(syscall.Conn)
		if !has {
			start()
		} else if failed := control(metrics, func(fd uintptr) { start(fd) }); failed != nil {
			err = failed
		}
	}
	if failed := control(s.Listener, fork); failed != nil {
		return 0, failed
	}
	return pid, err
}

func control(c syscall.Conn, use func(fd uintptr)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(use)
}

func unlinkOnClose(listener net.Listener, unlink bool) {
	if l, ok := listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(unlink)
	}
}

// Close gives the sockets up, and the lock last.
func (s *Sockets) Close() error {
	var errs []error
	for _, listener := range []net.Listener{s.Listener, s.Metrics} {
		if listener != nil {
			if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Program gives the path of the program that this process runs, as it was at the
// start: what lies there now is what is to run next.
func Program() (string, error) {
	path, err := os.Executable()
	if err == nil && !filepath.IsAbs(path) {
		err = fmt.Errorf("%q is not an absolute path", path)
	}
	return path, err
}
