package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

// observing is the folder of a node's observer. It goes with it.
const observing = "/var/lib/countersign-observing"

// settles is how long an observer has to find out that it can't.
const settles = 2 * time.Second

// Observer has a gate of its own judge what starts on a node, and refuse nothing. Nothing
// is installed: it ends with the agent.
type Observer struct {
	Root     string         // the node's; "" for the agent's own
	Program  string         // the gate
	Settings map[string]any // what gate.json has beside places and the runtime
	Logins   []byte         // Docker config.json; nil for none
	Keys     []policy.Key   // one of them must have signed a policy; none: no signature is asked for
	Stderr   io.Writer
	// Runtime is asked for the node's, and for its block of gate.json.
	Runtime func(ctx context.Context) (name string, block map[string]any, err error)

	child *child
	log   tail
}

// child is a gate that runs.
type child struct {
	command *exec.Cmd
	since   time.Time
	ended   chan struct{}
	err     error
	said    *last
}

// Observe has the gate run by this policy. What is in the way is the error, and the next
// call tries again.
func (o *Observer) Observe(ctx context.Context, p Policy) error {
	folder := filepath.Join(o.Root, observing)
	if o.child == nil {
		if err := o.bring(ctx, folder); err != nil {
			return err
		}
	}
	file := policy.File{Path: filepath.Join(folder, "policy.json"), Mark: filepath.Join(folder, "policy-mark.json"), Keys: o.Keys}
	if _, err := file.Install("the policy", p.Content, p.Signatures, false, false); err != nil {
		if o.child == nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
		return err
	}
	if o.child == nil {
		if err := o.start(folder); err != nil {
			return errors.Join(err, os.RemoveAll(folder))
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-o.child.ended:
		err := fmt.Errorf("countersign-gate observe: %w: %s", o.child.err, o.child.said)
		return errors.Join(err, o.StopObserving())
	case <-time.After(settles - time.Since(o.child.since)):
		return nil
	}
}

func (o *Observer) bring(ctx context.Context, folder string) error {
	runtime, block, err := o.Runtime(ctx)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(folder); err != nil { // of an agent that was killed
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	registry := map[string]any{}
	document := map[string]any{
		runtime:  block,
		"policy": observing + "/policy.json", "socket": observing + "/gate.sock", "log": observing + "/verdicts.jsonl",
		"evidence": map[string]any{"dir": observing + "/evidence", "maxBytes": 256 << 20, "maxEntries": 20000}, "registry": registry,
	}
	for key, value := range o.Settings {
		if given, ok := value.(map[string]any); ok && key == "registry" {
			for each, setting := range given {
				registry[each] = setting
			}
			continue
		}
		document[key] = value
	}
	if o.Logins != nil {
		registry["dockerConfig"] = observing + "/docker.json"
		if err := os.WriteFile(filepath.Join(folder, "docker.json"), o.Logins, 0o600); err != nil {
			return err
		}
	}
	settings, err := json.Marshal(document)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "gate.json"), settings, 0o600)
	}
	if err != nil {
		return err
	}
	program, err := os.ReadFile(o.Program)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "countersign-gate"), program, 0o700)
}

func (o *Observer) start(folder string) error {
	command := exec.Command(filepath.Join(observing, "countersign-gate"), "observe", "--config", observing+"/gate.json")
	if o.Root == "" {
		command.Path = filepath.Join(folder, "countersign-gate")
	} else {
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: o.Root}
	}
	command.Dir = "/"
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c := &child{command: command, since: time.Now(), ended: make(chan struct{}), said: &last{to: o.Stderr}}
	command.Stdout, command.Stderr = c.said, c.said
	command.WaitDelay = time.Second
	if err := command.Start(); err != nil {
		return err
	}
	go func() {
		if c.err = command.Wait(); c.err == nil {
			c.err = errors.New("it ended")
		}
		close(c.ended)
	}()
	o.child, o.log = c, tail{path: filepath.Join(folder, "verdicts.jsonl")}
	return nil
}

// Seen gives what was judged since the last call.
func (o *Observer) Seen() ([]verdict.Verdict, error) { return o.log.next() }

// StopObserving ends the gate, and takes its folder away.
func (o *Observer) StopObserving() error {
	if o.child != nil {
		if err := o.child.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-o.child.ended:
		case <-time.After(10 * time.Second):
			if err := o.child.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
			<-o.child.ended
		}
		o.child = nil
	}
	return os.RemoveAll(filepath.Join(o.Root, observing))
}

// last passes on what is written, and keeps the last line.
type last struct {
	to   io.Writer
	mu   sync.Mutex
	line string
}

func (l *last) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(p)), "\n")
	if end := lines[len(lines)-1]; end != "" {
		l.line = end[:min(len(end), maxShown)]
	}
	if l.to == nil {
		return len(p), nil
	}
	return l.to.Write(p)
}

func (l *last) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.line
}
