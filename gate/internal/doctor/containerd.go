package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"countersign/gate/internal/nri"
)

const (
	containerdConfig = "/etc/containerd/config.toml"
	maxConfig        = 4 << 20
	maxSpec          = 1 << 20
	maxTold          = 4 << 10
)

// containerdFacts is what a running containerd says of itself.
type containerdFacts struct {
	pid     int
	version version
	unit    string    // systemd's, or ""
	file    string    // the configuration that it was started with
	started time.Time // when
	config  tree      // in effect by what lies there now
	nri     string    // the version that it was built with, or ""
}

// tree is a document of tables.
type tree map[string]any

// at gives what lies at a path, or nil.
func (t tree) at(path ...string) any {
	var found any = map[string]any(t)
	for _, key := range path {
		table, _ := found.(map[string]any)
		found = table[key]
	}
	return found
}

// table gives the table at a path, or an empty one.
func (t tree) table(path ...string) tree {
	table, _ := t.at(path...).(map[string]any)
	return table
}

// texts gives the texts of the list at a path.
func (t tree) texts(path ...string) []string {
	list, _ := t.at(path...).([]any)
	found := make([]string, 0, len(list))
	for _, each := range list {
		if text, ok := each.(string); ok {
			found = append(found, text)
		}
	}
	return found
}

// shown writes a value as JSON, and what is not there as such.
func shown(value any) string {
	if value == nil {
		return "absent"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprintf("%v", value)
	}
	return string(text)
}

// inspectContainerd asks the containerd that listens at the socket of gate.json.
func (n *Node) inspectContainerd() (*containerdFacts, error) {
	return inspectContainerd(n.settings.Containerd.Address, n.program)
}

// inspectContainerd asks the containerd that listens at a socket: the process there tells
// its program and its configuration's file.
func inspectContainerd(address string, program func(pid int) string) (*containerdFacts, error) {
	pid, err := listenerOf(address)
	if err != nil {
		return nil, err
	}
	c := &containerdFacts{pid: pid, unit: unitOf(pid), file: containerdConfig}
	argv, err := arguments(pid)
	if err != nil {
		return nil, err
	}
	if path := configIn(argv); path != "" {
		c.file = absolute(pid, path)
	}
	if c.started, err = started(pid); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text, err := runtimeVersion(ctx, address)
	if err != nil {
		return nil, err
	}
	known := false
	if c.version, known = parseVersion(text); !known {
		return nil, fmt.Errorf("containerd at %s says that its version is %q", address, text)
	}
	c.nri, _ = nri.VersionIn(program(pid)) // told where it can be
	c.config, err = dump(ctx, program(pid), c.file)
	return c, err
}

// configIn gives what --config of a command line of containerd names, or "".
func configIn(argv []string) string {
	for i, word := range argv {
		name, value, joined := strings.Cut(word, "=")
		switch name {
		case "-c", "-config", "--config":
		default:
			continue
		}
		if !joined && i+1 < len(argv) {
			value = argv[i+1]
		}
		return value
	}
	return ""
}

// runtimeVersion asks a runtime for its version over CRI.
func runtimeVersion(ctx context.Context, address string) (string, error) {
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	response, err := runtimeapi.NewRuntimeServiceClient(conn).Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return "", fmt.Errorf("%s: %w", address, err)
	}
	return response.GetRuntimeVersion(), nil
}

// dump has containerd itself say what is in effect, imports and defaults included.
func dump(ctx context.Context, program, file string) (tree, error) {
	command := exec.CommandContext(ctx, program, "--config", file, "config", "dump")
	var out, told bytes.Buffer
	command.Stdout, command.Stderr = &limited{to: &out, left: maxConfig}, &limited{to: &told, left: maxTold, drops: true}
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("containerd --config %s config dump: %w: %s", file, err, strings.TrimSpace(told.String()))
	}
	var found tree
	if err := toml.Unmarshal(out.Bytes(), &found); err != nil {
		return nil, fmt.Errorf("containerd --config %s config dump: %w", file, err)
	}
	return found, nil
}

// limited takes so many bytes. What is more is an error, or dropped: warnings may be
// many, and are none of ours.
type limited struct {
	to    io.Writer
	left  int
	drops bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left >= 0 {
		return l.to.Write(p)
	}
	if l.drops {
		return len(p), nil
	}
	return 0, errors.New("too much output")
}

// containerdAsked is what containerd says, for checks that come after the one that it
// answers.
func (n *Node) containerdAsked() (*containerdFacts, error) {
	c, err := n.containerd()
	if err != nil {
		return nil, after("containerd.answers")
	}
	return c, nil
}

// openLog gives what containerd wrote: the file that its stderr is, or its journal.
func (n *Node) openLog() (io.ReadCloser, error) {
	c, err := n.containerdAsked()
	if err != nil {
		return nil, err
	}
	stderr := fmt.Sprintf("/proc/%d/fd/2", c.pid)
	if info, err := os.Stat(stderr); err == nil && info.Mode().IsRegular() {
		return os.Open(stderr)
	}
	journalctl, err := exec.LookPath("journalctl")
	if err != nil {
		return nil, skipped("its log is neither a file nor a journal that can be read here")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	command := exec.CommandContext(ctx, journalctl, fmt.Sprintf("_PID=%d", c.pid), fmt.Sprintf("--since=@%d", c.started.Unix()-1), "--output=cat", "--no-pager")
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return journal{out, func() { cancel(); _ = command.Wait() }}, nil // what was read of it counts
}

// journal is a journal that is being read.
type journal struct {
	io.Reader
	end func()
}

func (j journal) Close() error {
	j.end()
	return nil
}

// runtime says what the runtime is, as far as it told.
func (n *Node) runtime() Runtime {
	found := Runtime{Name: nameOf(n.settings)}
	if n.settings.Crio != nil {
		if c, err := n.crio(); err == nil {
			found.Version, found.NRI = c.version, c.nri
		}
	} else if c, err := n.containerd(); err == nil {
		found.Version, found.NRI = c.version.String(), c.nri
	}
	return found
}

// hasHook says whether an OCI runtime spec has our hook, as set-up writes it.
func (n *Node) hasHook(path string) (bool, error) {
	content, err := readBounded(path)
	if err != nil {
		return false, err
	}
	var spec struct {
		Hooks struct {
			CreateRuntime []hook `json:"createRuntime"`
		} `json:"hooks"`
	}
	err = json.Unmarshal(content, &spec) // what is not a spec has no hook
	return err == nil && slices.ContainsFunc(spec.Hooks.CreateRuntime, func(h hook) bool { return h.ours(n) }), nil
}

// hook is one of the OCI runtime specification (POSIX-platform Hooks).
type hook struct {
	Path    string   `json:"path"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Timeout int      `json:"timeout"`
}

// ours says whether it is the gate's hook: it waits as long as it has to, and asks
// this very gate.
func (h hook) ours(n *Node) bool {
	return h.Path == n.hook() && len(h.Args) == 3 && h.Args[1] == "--socket" && h.Args[2] == n.settings.Socket &&
		len(h.Env) == 0 && h.Timeout == hookTimeout
}

// hookTimeout is in seconds; without one runc waits for ever.
const hookTimeout = 10

// ofContainerd makes a look of one at what containerd says.
func ofContainerd(look func(*Node, *containerdFacts) ([]Finding, error)) func(*Node) ([]Finding, error) {
	return func(n *Node) ([]Finding, error) {
		c, err := n.containerdAsked()
		if err != nil {
			return nil, err
		}
		return look(n, c)
	}
}
