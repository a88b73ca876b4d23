package doctor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"countersign/gate/internal/config"
	"countersign/gate/internal/nri"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

const (
	pause  = "sha256:278fb9dbcca9518083ad1e11276933a2e96f23de604a3a08cc3c80002767d24c"
	gatePD = 41 // the gate's process
)

// world is a node that enforces, until a test changes one thing.
type world struct {
	t       *testing.T
	dir     string
	version string
	dump    string // what the runtime says is in effect
	log     string
	started time.Time
	ping    *verdict.Verdict
	strange error
	down    error // why the runtime does not answer
	record  map[string]Laid
	crio    bool
	setup   string
}

func newWorld(t *testing.T, crio bool) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), version: "v2.4.2", started: time.Now().Add(time.Hour), crio: crio}
	fixture := "containerd.toml"
	if crio {
		fixture = "crio.toml"
	}
	content, err := os.ReadFile(filepath.Join("testdata", fixture))
	if err != nil {
		t.Fatal(err)
	}
	w.dump = strings.ReplaceAll(string(content), "DIR", w.dir)
	hook := fmt.Sprintf(`{"path": %q, "args": ["countersign-hook", "--socket", %q], "timeout": 10}`, w.path("bin/countersign-hook"), w.path("gate.sock"))
	spec := fmt.Sprintf(`{"process": {}, "hooks": {"createRuntime": [%s]}}`, hook)
	w.write("bin/countersign-gate", gateProgram, 0o755)
	w.write("bin/countersign-hook", hookProgram, 0o755)
	w.write("etc/policy.json", `{"version": "countersign.policy/v1", "roots": {}, "scopes": {}, "pinned": ["registry.k8s.io/pause@`+pause+`"], "revoked": {"keys": [], "certificates": [], "digests": []}}`, 0o644)
	if crio {
		w.write("etc/crio/policy.json", `{"default": [{"type": "reject"}], "transports": {}}`, 0o644)
		w.write("etc/crio/hooks.d/countersign.json", `{"version": "1.0.0", "hook": `+hook+`, "when": {"always": true}, "stages": ["createRuntime"]}`, 0o644)
		w.folder("etc/crio/namespaces")
		w.folder("hooks.d")
	} else {
		w.write("etc/base.json", spec, 0o644)
		w.write("etc/other.json", spec, 0o644)
		w.write("containerd.toml", "", 0o644)
		w.write("conf.d/mine.toml", "", 0o644)
		w.folder("verifiers")
		w.link("bin/countersign-gate", "verifiers/countersign-image-verifier")
	}
	w.gateJSON(`"hook": "` + w.path("bin/countersign-hook") + `"`)
	p, err := policy.Load(w.path("etc/policy.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.ping = &verdict.Verdict{Policy: p.Hash, NRI: nri.Connected, PID: gatePD}
	return w
}

// gateJSON writes gate.json with these members of the runtime's block.
func (w *world) gateJSON(runtime string) {
	block := "containerd"
	if w.crio {
		block = "crio"
	}
	w.write("etc/gate.json", fmt.Sprintf(`{"policy": %q, "socket": %q, %q: {%s}}`, w.path("etc/policy.json"), w.path("gate.sock"), block, runtime), 0o644)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) folder(name string) {
	if err := os.MkdirAll(w.path(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name, content string, mode os.FileMode) {
	w.t.Helper()
	w.folder(filepath.Dir(name))
	if err := os.WriteFile(w.path(name), []byte(content), mode); err != nil {
		w.t.Fatal(err)
	}
	w.chmod(name, mode)
}

func (w *world) chmod(name string, mode os.FileMode) {
	if err := os.Chmod(w.path(name), mode); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) link(target, name string) {
	w.t.Helper()
	if err := os.Symlink(w.path(target), w.path(name)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(name string) {
	if err := os.Remove(w.path(name)); err != nil {
		w.t.Fatal(err)
	}
}

// edit changes one thing in a file.
func (w *world) edit(name, old, now string) {
	w.t.Helper()
	content, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(name, replaced(w.t, string(content), old, now), 0o644)
}

// changeAfterStart changes one file after the runtime started.
func (w *world) changeAfterStart(name string) {
	w.t.Helper()
	time.Sleep(10 * time.Millisecond) // the clock of files is coarse; what is older stays older
	w.started = time.Now()
	content, err := os.ReadFile(w.path(name))
	for when := (time.Time{}); err == nil && !when.After(w.started.Add(grace)); when, err = changed(w.path(name)) {
		w.write(name, string(content), 0o644)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// say changes one thing in what the runtime says.
func (w *world) say(old, now string) {
	w.t.Helper()
	w.dump = replaced(w.t, w.dump, old, now)
}

func replaced(t *testing.T, text, old, now string) string {
	t.Helper()
	if strings.Count(text, old) < 1 {
		t.Fatalf("there is no %q", old)
	}
	return strings.Replace(text, old, now, 1)
}

// node gives it as a look finds it.
func (w *world) node() *Node {
	w.t.Helper()
	options := Options{Config: w.path("etc/gate.json"), CrioSocket: "/run/crio.sock", Setup: w.setup}
	settings, err := config.Load(options.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	var effective tree
	if err := toml.Unmarshal([]byte(w.dump), &effective); err != nil {
		w.t.Fatal(err)
	}
	v, _ := parseVersion(w.version)
	return &Node{
		options: options, settings: settings, owner: os.Geteuid(), record: w.record,
		ping: func() (*verdict.Verdict, error) {
			if w.ping == nil {
				return nil, errors.New("connection refused")
			}
			return w.ping, nil
		},
		servesNRI: func(string, string) error { return w.strange },
		containerd: func() (*containerdFacts, error) {
			return &containerdFacts{pid: os.Getpid(), version: v, unit: "containerd.service", file: w.path("containerd.toml"), started: w.started, config: effective}, w.down
		},
		crio: func() (*crioFacts, error) {
			return &crioFacts{version: w.version, unit: "crio.service", config: effective.table("crio")}, w.down
		},
		log:     func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(w.log)), nil },
		program: func(int) string { return w.path("bin/running") },
		mainOf: func(path string) string {
			content, _ := os.ReadFile(path)
			return strings.TrimSpace(string(content))
		},
	}
}

// look makes every check.
func (w *world) look() *Report {
	w.t.Helper()
	if _, err := os.Lstat(w.path("bin/running")); err != nil { // what the kernel shows as /proc/PID/exe
		w.link("bin/countersign-gate", "bin/running")
	}
	node := w.node()
	report := &Report{Version: Version, Checks: checks(node.settings)}
	report.look(node)
	return report
}

// states gives the names of the checks in a state.
func states(r *Report, state State) []string {
	var found []string
	for _, check := range r.Checks {
		if check.State == state {
			found = append(found, check.Name)
		}
	}
	return found
}

// one is one thing changed on a node, and what is told of it.
type one struct {
	name   string
	change func(*world)
	check  string
	says   string
}

// eachIsTold makes each change on a node of its own: its check is open, no other, and
// says what was found.
func eachIsTold(t *testing.T, crio bool, state State, changes []one) {
	for _, each := range changes {
		t.Run(each.name, func(t *testing.T) {
			w := newWorld(t, crio)
			each.change(w)
			report := w.look()
			if open := append(states(report, Open), states(report, Warning)...); !slices.Equal(open, []string{each.check}) || report.Count(state) != 1 || report.Count(Unknown) != 0 {
				t.Fatalf("open or warned of: %q, expected %q as %s; unknown: %q", open, each.check, state, states(report, Unknown))
			}
			for _, check := range report.Checks {
				for _, found := range check.Findings {
					if !strings.Contains(found.String(), each.says) || found.Mend == "" {
						t.Errorf("got %q (%s), expected %q", found, found.Mend, each.says)
					}
				}
			}
		})
	}
}
