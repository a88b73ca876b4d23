package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"golang.org/x/sys/unix"

	"countersign/gate/internal/code"
	"countersign/gate/internal/daemon"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/fakenri"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/nri"
	"countersign/gate/internal/wire"
)

// TestMain lets this program be the gate too, as a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == judge.ChildCommand) {
		os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// manager is a service manager: it starts the first gate, and hears which process
// the service is.
type manager struct {
	*place
	pid  int // of the gate
	conn *net.UnixConn
}

func (p *place) managed() *manager {
	p.t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		p.t.Fatal(err)
	}
	socket := filepath.Join(p.dir, "notify.sock")
	if err := os.RemoveAll(socket); err != nil { // of the manager of a gate before
		p.t.Fatal(err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		p.t.Fatal(err)
	}
	m := &manager{place: p, conn: conn}
	log, err := os.Create(filepath.Join(p.dir, "gate.log"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	first := exec.Command(os.Args[0], "serve", "--config", p.config)
	first.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket, daemon.HandoverEnv+"=1 plugin metrics") // not its parent: not believed
	first.Stderr = log
	if err := first.Start(); err != nil {
		p.t.Fatal(err)
	}
	m.pid = first.Process.Pid
	p.t.Cleanup(func() {
		if m.pid != 0 {
			m.end(syscall.SIGTERM)
		}
		conn.Close()
	})
	m.hear("READY=1")
	return m
}

// hear waits for a message that begins like this, and gives the rest.
func (m *manager) hear(prefix string) string {
	m.t.Helper()
	buffer := make([]byte, 1000)
	_ = m.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		n, err := m.conn.Read(buffer)
		if err != nil {
			m.t.Fatalf("%s: %v: %s", prefix, err, m.words())
		}
		if rest, ok := strings.CutPrefix(string(buffer[:n]), prefix); ok {
			return rest
		}
	}
}

func (m *manager) words() string {
	log, err := os.ReadFile(filepath.Join(m.dir, "gate.log"))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(log)
}

func (m *manager) end(signal syscall.Signal) {
	m.t.Helper()
	if err := syscall.Kill(m.pid, signal); err != nil {
		m.t.Errorf("the gate is gone: %v: %s", err, m.words())
		return
	}
	m.reap(m.pid)
	m.pid = 0
}

func (m *manager) reap(pid int) {
	m.t.Helper()
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
		m.t.Errorf("process %d: %v, %v: %s", pid, err, status, m.words())
	}
}

// handOver replaces the gate and waits for the end of the old one.
func (m *manager) handOver() {
	m.t.Helper()
	before := m.pid
	if err := syscall.Kill(before, syscall.SIGUSR2); err != nil {
		m.t.Fatal(err)
	}
	pid, err := strconv.Atoi(m.hear("MAINPID="))
	if err != nil || pid == before {
		m.t.Fatalf("%d after %d, %v", pid, before, err)
	}
	m.pid = pid
	m.reap(before)
}

// withNRI has the gate be a plugin of a runtime that requires it, and starts that.
func (p *place) withNRI() (create func() error) {
	p.t.Helper()
	p.expectsNRI()
	return p.startNRI()
}

func (p *place) expectsNRI() {
	p.t.Helper()
	settings := map[string]any{}
	content, err := os.ReadFile(p.config)
	if err == nil {
		err = json.Unmarshal(content, &settings)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	settings["containerd"] = map[string]any{"address": p.node.Address, "nri": p.nriSocket(), "hook": "/opt/bin/" + hookProgram}
	p.write(filepath.Base(p.config), settings)
}

// startNRI gives what asks the runtime for a container with the hook.
func (p *place) startNRI() (create func() error) {
	p.t.Helper()
	r := fakenri.Start(p.t, p.nriSocket(), nri.Name)
	return func() error {
		_, err := fakenri.Create(r, &api.Hook{Path: "/opt/bin/" + hookProgram, Args: []string{hookProgram, "--socket", p.settings.Socket}})
		return err
	}
}

func (p *place) nriSocket() string { return filepath.Join(p.dir, "nri.sock") }

func TestHandOversRefuseNothing(t *testing.T) {
	const handOvers, clients = 20, 4
	p := newPlace(t)
	call := p.withNRI()
	m := p.managed()
	eventually(t, func() bool { return call() == nil })
	state := fakecontainerd.State(t, container, p.name)
	var creates, most atomic.Int64
	var clientsDone sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	for range clients {
		clientsDone.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if err := call(); err != nil {
					t.Errorf("create %d: NRI: %v", creates.Load(), err)
				}
				v, err := wire.Call(context.Background(), p.settings.Socket, wire.Create, state)
				if err != nil || v.Code != code.OK {
					t.Errorf("create %d: %+v, %v", creates.Load(), v, err)
				}
				creates.Add(1)
				most.Store(max(most.Load(), int64(time.Since(start))))
			}
		})
	}
	for range handOvers {
		m.handOver()
	}
	stop()
	clientsDone.Wait()
	t.Logf("%d creates over %d hand-overs, the longest took %s", creates.Load(), handOvers, time.Duration(most.Load()))
	if creates.Load() < 10*handOvers {
		t.Errorf("%d creates are too few to prove anything", creates.Load())
	}
	lines, err := os.ReadFile(filepath.Join(p.dir, "verdicts.jsonl"))
	if got := int64(bytes.Count(lines, []byte("\n"))); err != nil || got != creates.Load() {
		t.Errorf("%d verdicts in the log of %d, %v", got, creates.Load(), err)
	}
	if p.metric("countersign_policy_valid") != 1 {
		t.Error("the last gate serves no metrics")
	}
}

func TestARuntimeThatComesUpAfterAHandOverFindsTheNextGate(t *testing.T) {
	p := newPlace(t)
	p.expectsNRI()
	m := p.managed()
	m.handOver()
	call := p.startNRI()
	eventually(t, func() bool { return call() == nil })
	p.want(p.create(), code.OK)
	m.handOver()
	if err := call(); err != nil {
		t.Error(err)
	}
}

func TestAGateThatCannotServeTakesNothingOver(t *testing.T) {
	good := newPlace(t)
	for _, test := range []struct{ name, file, content, says string }{
		{"gate.json is invalid", "gate.json", `{"socket": 5}`, "gate.json"},
		{"the policy is invalid", "policy.json", `{`, "the policy is not valid"},
		{"another socket", "gate.json", fmt.Sprintf(`{"socket": "/nowhere/gate.sock", "evidence": {"dir": %q}, "log": "-"}`, good.dir), "restart the service instead"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			call := p.withNRI()
			m := p.managed()
			eventually(t, func() bool { return call() == nil })
			p.want(p.create(), code.OK)
			path := filepath.Join(p.dir, test.file)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(m.pid, syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool { return strings.Contains(m.words(), "NOT HANDED OVER") })
			if !strings.Contains(m.words(), test.says) {
				t.Errorf("why is not told: %s", m.words())
			}
			p.want(p.create(), code.OK)
			if err := call(); err != nil {
				t.Errorf("it has left NRI: %v", err)
			}
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Fatal(err)
			}
			m.handOver() // and the next try succeeds
			p.want(p.create(), code.OK)
		})
	}
}

func TestAGateWhoseSuccessorIsNotThereGoesOn(t *testing.T) {
	sockets, err := daemon.OpenSockets(func(string) string { return "" }, filepath.Join(t.TempDir(), "gate.sock"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	for _, test := range []struct{ path, script, says, plugin string }{
		{"/nowhere/gate", "", "no such file", ""},
		{"/bin/false", "", "did not come to serve", ""},
		{"/bin/sh", "printf l >&5", "did not come to serve", "left returned"},
		{"/bin/sh", "printf ll >&5; sleep 20", "it said", "left returned"},
		{"/bin/sh", "printf x >&5; sleep 20", "it said", ""},
	} {
		var plugin witness
		err := sockets.HandOver(context.Background(), test.path, []string{"-c", test.script}, &plugin, func(int) { t.Error("told the service manager") })
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s %s: %v", test.path, test.script, err)
		}
		if did := strings.Join(plugin, " "); did != test.plugin {
			t.Errorf("%s %s: the plugin has %q, expected %q", test.path, test.script, did, test.plugin)
		}
	}
	if conn, err := net.Dial("unix", sockets.Listener.Addr().String()); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

// witness is a plugin that notes what it is told.
type witness []string

func (w *witness) Registered() bool { return true }
func (w *witness) Leave()           { *w = append(*w, "left") }
func (w *witness) Return()          { *w = append(*w, "returned") }
