package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"countersign/gate/internal/code"
	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
)

const (
	sandboxTag    = "registry.k8s.io/pause:3.10"
	sandboxDigest = "sha256:" + "ab" + "00000000000000000000000000000000000000000000000000000000000000"
	sandboxPin    = "registry.k8s.io/pause@" + sandboxDigest
	emptyPolicy   = `{"version":"countersign.policy/v1","roots":{},"scopes":{},"pinned":[],"revoked":{"keys":[],"certificates":[],"digests":[]}}`
	nodesConfig   = "# the node's own\nversion = 3\n[plugins.'io.containerd.cri.v1.images']\n  max_concurrent_downloads = 10\n"
)

// machine is a node that the tests make up below one folder. Its containerd merges files
// as the real one does.
type machine struct {
	t        *testing.T
	root     string
	l        layout
	own      map[string]any // settings beside files
	ignores  bool           // containerd reads no drop-ins by itself
	problems []prove.Problem
	open     bool
	restarts []string // units, in order
	pid      int      // of the gate
	gate     time.Time
	runtime  time.Time // when they were started
	images   map[string]string
	fails    string // what systemctl does not do, once
	unit     string // of containerd
	config   string // its file
	base     string // of that, where it is generated
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	root := t.TempDir()
	at := func(path string) string { return filepath.Join(root, path) }
	m := &machine{t: t, root: root, unit: ownUnit, config: "etc/containerd/config.toml", images: map[string]string{sandboxTag: sandboxDigest}, own: map[string]any{
		criImages:  map[string]any{"pinned_images": map[string]any{"sandbox": sandboxTag}, "snapshotter": overlayfs},
		criRuntime: map[string]any{"containerd": map[string]any{"default_runtime_name": "runc", "runtimes": map[string]any{"runc": map[string]any{"runtime_type": "io.containerd.runc.v2"}}}},
	}}
	m.l = layout{
		bin: at("usr/local/bin"), verifiers: at("opt/verifier/bin"), etc: at("etc/countersign"), certs: at("etc/containerd/certs.d"),
		lib: at("var/lib/countersign"), run: at("run/countersign"), log: at("var/log/countersign"), units: at("etc/systemd/system"),
		dropIn: at("etc/containerd/conf.d/90-countersign.toml"),
	}
	m.write("etc/containerd/config.toml", nodesConfig)
	m.write("etc/systemd/system/containerd.service", "[Unit]\n")
	m.write("src/countersign-gate", "gate 1")
	m.write("src/countersign-hook", "hook 1")
	m.write("usr/local/bin/other", "not ours")
	return m
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// effective merges what lies there as containerd does: later files win, key by key.
func (m *machine) effective() map[string]any { return m.effect(filepath.Join(m.root, m.config)) }

func (m *machine) effect(file string) map[string]any {
	m.t.Helper()
	found := map[string]any{"plugins": clone(m.own)}
	read := func(path string) map[string]any {
		var document map[string]any
		content, err := os.ReadFile(path)
		if err == nil {
			err = toml.Unmarshal(content, &document)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.t.Fatal(err)
		}
		merge(found, document)
		return document
	}
	main := read(file)
	for _, pattern := range texts(main["imports"]) {
		files, err := filepath.Glob(pattern)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, path := range files {
			read(path)
		}
	}
	if !m.ignores {
		read(m.l.dropIn)
	}
	return found
}

func clone(of map[string]any) map[string]any {
	found := map[string]any{}
	merge(found, of)
	return found
}

func merge(to, from map[string]any) {
	for key, value := range from {
		if inner, ok := value.(map[string]any); ok {
			merge(table(to, key), inner)
			continue
		}
		to[key] = value
	}
}

func (m *machine) host() host {
	return host{
		survey: func(string) (*doctor.Containerd, error) {
			return &doctor.Containerd{Version: "2.4.2", Unit: m.unit, File: filepath.Join(m.root, m.config), Config: m.effective(), Requires: true, Criu: true, Started: m.runtime}, nil
		},
		dump: func(_ context.Context, _ *doctor.Containerd, file string) (map[string]any, error) {
			return m.effect(file), nil
		},
		systemctl: m.systemctl,
		started:   func(int) (time.Time, error) { return m.gate, nil },
		ociSpec:   func(context.Context) ([]byte, error) { return []byte(`{"process":{"rlimits":[{}]}}`), nil },
		connected: func(context.Context, string) error { return nil },
		examine: func(string) *doctor.Report {
			if !m.open {
				return &doctor.Report{OK: true}
			}
			return &doctor.Report{Checks: []doctor.Check{{Name: "containerd.log", State: doctor.Open, Findings: []doctor.Finding{{Where: "containerd's log", Found: "bad", Wanted: "good"}}}}}
		},
		prove: func(context.Context, prove.Config) (*prove.Receipt, error) {
			return &prove.Receipt{Version: prove.Version, Problems: m.problems, Proven: prove.Proven{Refuse: len(m.problems) == 0}}, nil
		},
		capable: func() bool { return true },
		store:   m,
	}
}

// systemctl does as systemd would.
func (m *machine) systemctl(_ context.Context, arguments ...string) (string, error) {
	line := strings.Join(arguments, " ")
	if m.fails == line {
		m.fails = ""
		return "", errors.New("Job failed")
	}
	name := arguments[len(arguments)-1]
	switch {
	case arguments[0] == "show" && m.pid != 0:
		return fmt.Sprintf("ActiveState=active\nMainPID=%d\n", m.pid), nil
	case arguments[0] == "show":
		return "ActiveState=inactive\nMainPID=0\n", nil
	case line == "restart -- "+m.unit:
		m.generate()
		m.runtime = time.Now()
	case arguments[0] == "restart" || arguments[0] == "reload":
		m.pid++
		m.gate = time.Now()
	case arguments[0] == "disable":
		m.pid = 0
	default:
		return "", nil
	}
	m.restarts = append(m.restarts, arguments[0]+" "+name)
	return "", nil
}

// generate writes containerd's configuration as k3s does at its start.
func (m *machine) generate() {
	if m.base == "" {
		return
	}
	text := fromBase
	if content, err := os.ReadFile(filepath.Join(m.root, filepath.Dir(m.config), template)); err == nil {
		text = string(content)
	}
	m.write(m.config, strings.ReplaceAll(text, fromBase, m.base))
}

func (m *machine) digest(_ context.Context, name string) (string, error) { return m.images[name], nil }
func (m *machine) pull(context.Context, string) error                    { return errors.New("no such registry") }
func (m *machine) forget(_ context.Context, name string) error {
	delete(m.images, name)
	return nil
}
func (m *machine) ready(context.Context) error { return nil }
func (m *machine) name(_ context.Context, from, to string) error {
	m.images[to] = m.images[from]
	return nil
}

func (m *machine) options() Options {
	return Options{Socket: "/run/containerd/containerd.sock", Programs: filepath.Join(m.root, "src"), Policy: []byte(emptyPolicy), Version: "test"}
}

func (m *machine) install(change ...func(*Options)) (*Result, error) {
	m.t.Helper()
	o := m.options()
	for _, each := range change {
		each(&o)
	}
	return run(context.Background(), o, m.l, m.host())
}

// files gives every file and folder with its content.
func (m *machine) files() map[string]string {
	m.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			found[path] = "folder"
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			found[path], err = os.Readlink(path)
			return err
		}
		content, err := os.ReadFile(path)
		found[path] = string(content)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

func differ(a, b map[string]string) []string {
	var found []string
	for path := range maps.Keys(a) {
		if b[path] != a[path] {
			found = append(found, path)
		}
	}
	for path := range maps.Keys(b) {
		if _, ok := a[path]; !ok {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return found
}

func TestInstallBringsANodeUnderEnforcementAndUninstallTakesItOffByteByByte(t *testing.T) {
	m := newMachine(t)
	before := m.files()
	done, err := m.install()
	if err != nil {
		t.Fatal(err)
	}
	if done.Changed != len(done.Steps) || done.Receipt == nil || done.Sandbox != sandboxPin {
		t.Fatalf("got %+v", done)
	}
	for path, wanted := range map[string]string{
		m.l.gate(): "gate 1", m.l.hook(): "hook 1", m.l.verifier(): m.l.gate(), m.l.policy(): emptyPolicy,
		filepath.Join(m.root, "etc/containerd/config.toml"): nodesConfig,
	} {
		if got := m.files()[path]; got != wanted {
			t.Errorf("%s: got %q, expected %q", path, got, wanted)
		}
	}
	if m.images[sandboxPin] != sandboxDigest {
		t.Error("the sandbox image is not known by its digest")
	}
	var spec struct {
		Process struct{ Rlimits []any }
		Hooks   struct{ CreateRuntime []struct{ Path string } }
	}
	if err := json.Unmarshal([]byte(m.files()[filepath.Join(m.l.etc, "base-runc.json")]), &spec); err != nil || len(spec.Process.Rlimits) != 0 || spec.Hooks.CreateRuntime[0].Path != m.l.hook() {
		t.Errorf("base spec: %v %+v", err, spec)
	}
	effective := m.effective()
	for path, wanted := range map[string]string{
		criImages + "/max_concurrent_downloads": "3", criImages + "/pinned_images/sandbox": sandboxPin,
		verifiers + "/bin_dir": m.l.verifiers, criRuntime + "/containerd/runtimes/runc/base_runtime_spec": filepath.Join(m.l.etc, "base-runc.json"),
		nriPlugin + "/default_validator/required_plugins": "[countersign]",
	} {
		if got := at(effective, append([]string{"plugins"}, strings.Split(path, "/")...)); fmt.Sprint(got) != wanted {
			t.Errorf("%s is %v, expected %s", path, got, wanted)
		}
	}

	if _, err := uninstall(context.Background(), m.l, m.systemctl, func(string) store { return m }, false); err != nil {
		t.Fatal(err)
	}
	if left := differ(before, m.files()); len(left) > 0 || len(m.images) != 1 {
		t.Errorf("the node is not as it was: %s %v", left, m.images)
	}
}

func TestASecondInstallChangesNothingAndRestartsNothing(t *testing.T) {
	m := newMachine(t)
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	before := m.files()
	m.restarts = nil
	done, err := m.install()
	if err != nil || done.Changed != 0 || len(m.restarts) > 0 {
		t.Errorf("%v %+v %s", err, done, m.restarts)
	}
	if left := differ(before, m.files()); len(left) > 0 {
		t.Errorf("changed: %s", left)
	}
}

func TestANewGateHandsOverAndContainerdStaysAsItRuns(t *testing.T) {
	m := newMachine(t)
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	m.write("src/countersign-gate", "gate 2")
	m.restarts = nil
	if done, err := m.install(); err != nil || !slices.Equal(m.restarts, []string{"reload " + unit}) {
		t.Errorf("%v %+v %s", err, done, m.restarts)
	}
}

func TestWhatFailsIsTakenBack(t *testing.T) {
	for name, breaks := range map[string]func(*machine){
		"the proof": func(m *machine) {
			m.problems = []prove.Problem{{Where: "start", Found: "allowed", Expected: "refused"}}
		},
		"the doctor":     func(m *machine) { m.open = true },
		"the gate":       func(m *machine) { m.fails = "restart -- " + unit },
		"the containerd": func(m *machine) { m.fails = "restart -- containerd.service" },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			before := m.files()
			breaks(m)
			if _, err := m.install(); err == nil || !strings.HasSuffix(err.Error(), "; the node is as it was before") {
				t.Fatalf("got %v", err)
			}
			if left := differ(before, m.files()); len(left) > 0 {
				t.Errorf("left: %s", left)
			}
		})
	}
}

func TestAnUpgradeThatFailsLeavesTheOlderOne(t *testing.T) {
	m := newMachine(t)
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	before := m.files()
	m.write("src/countersign-gate", "gate 2")
	before[filepath.Join(m.root, "src/countersign-gate")] = "gate 2"
	m.open = true
	if _, err := m.install(); err == nil {
		t.Fatal("expected an error")
	}
	if left := differ(before, m.files()); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

func TestAContainerdThatLooksForNoDropInsImportsOurs(t *testing.T) {
	m := newMachine(t)
	m.ignores = true
	before := m.files()
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	wanted := fmt.Sprintf("imports = [%q]\n", m.l.dropIn) + nodesConfig
	if got := m.files()[filepath.Join(m.root, "etc/containerd/config.toml")]; got != wanted {
		t.Errorf("got %q, expected %q", got, wanted)
	}
	if _, err := uninstall(context.Background(), m.l, m.systemctl, func(string) store { return m }, false); err != nil {
		t.Fatal(err)
	}
	if left := differ(before, m.files()); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

func TestAPlanChangesNothing(t *testing.T) {
	m := newMachine(t)
	before := m.files()
	done, err := m.install(func(o *Options) { o.Plan = true })
	if err != nil || done.Changed != len(done.Steps) {
		t.Fatalf("%v %+v", err, done)
	}
	if left := differ(before, m.files()); len(left) > 0 {
		t.Errorf("changed: %s", left)
	}
}

func TestWhatIsInTheWayIsSaidBeforeAnythingChanges(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(*machine)
		change func(*Options)
		says   string
	}{
		"set up from elsewhere": {breaks: func(m *machine) { m.write("etc/countersign/gate.json", "{}") }, says: "set up from another machine"},
		"no sandbox image":      {breaks: func(m *machine) { delete(m.images, sandboxTag) }, says: "no such registry"},
		"no handler":            {breaks: func(m *machine) { delete(m.own, criRuntime) }, says: "names no runtime handler"},
		"no programs":           {change: func(o *Options) { o.Programs = "/nowhere" }, says: "no such file"},
		"a bad policy":          {change: func(o *Options) { o.Policy = []byte("{}") }, says: string(code.PolicyInvalid)},
		"no signature":          {change: func(o *Options) { o.PolicyKeys = []string{"nonsense"} }, says: "policy keys"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			change := func(*Options) {}
			if c.breaks != nil {
				c.breaks(m)
			}
			if c.change != nil {
				change = c.change
			}
			before := m.files()
			if _, err := m.install(change); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected %q", err, c.says)
			}
			if left := differ(before, m.files()); len(left) > 0 {
				t.Errorf("changed: %s", left)
			}
		})
	}
}

func TestANodeWithAReadOnlyPathIsLeftAsItIs(t *testing.T) {
	for _, path := range []string{"usr/local/bin", "etc/systemd/system", "var"} {
		t.Run(path, func(t *testing.T) {
			m := newMachine(t)
			dir := filepath.Join(m.root, path)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			before := m.files()
			err := unix.Mount(dir, dir, "", unix.MS_BIND, "")
			if errors.Is(err, unix.EPERM) {
				t.Skip("this user may not mount")
			}
			if err == nil {
				t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
				err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.install(); err == nil || !strings.Contains(err.Error(), dir+" can't be written to") || !strings.HasSuffix(err.Error(), "this node is left as it is") || !errors.Is(err, unix.EROFS) {
				t.Errorf("got %v", err)
			}
			if left := differ(before, m.files()); len(left) > 0 || len(m.restarts) > 0 {
				t.Errorf("changed: %s, %s", left, m.restarts)
			}
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := m.install(); err != nil {
				t.Errorf("twin: %v", err)
			}
		})
	}
}

const k3s = "var/lib/rancher/k3s/agent/etc/containerd/"

func TestAContainerdInsideK3sIsConfiguredByItsTemplate(t *testing.T) {
	tidy := func(m *machine) map[string]string {
		found := m.files()
		delete(found, filepath.Join(m.root, m.config)) // k3s writes it
		return found
	}
	for name, row := range map[string]struct {
		template, base string
		says           string // why not
		wanted         string // of the template
	}{
		"none yet":                     {base: "version = 3\n", wanted: "imports = [%q]\n" + fromBase + "\n"},
		"one of the user's":            {template: fromBase + "\n[x]\n", base: "version = 3\n", wanted: "imports = [%q]\n" + fromBase + "\n[x]\n"},
		"with imports":                 {template: "imports = ['/x']\n" + fromBase, base: "version = 3\n", says: "has imports of its own"},
		"a base that imports drop-ins": {base: "version = 3\nimports = ['ROOT/" + k3s + "config-v3.toml.d/*.toml']\n"},
		"a base that imports others":   {base: "version = 3\nimports = ['/x']\n", says: "imports files already"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.unit, m.ignores, m.config, m.base = "k3s-agent.service", true, k3s+"config.toml", strings.ReplaceAll(row.base, "ROOT", m.root)
			if row.template != "" {
				m.write(k3s+template, row.template)
			}
			m.generate()
			before := tidy(m)
			_, err := m.install()
			if row.says != "" {
				if err == nil || !strings.Contains(err.Error(), row.says) || len(differ(before, tidy(m))) > 0 {
					t.Errorf("got %v, changed %s", err, differ(before, tidy(m)))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wanted := ""
			if row.wanted != "" {
				wanted = fmt.Sprintf(row.wanted, m.l.dropIn)
			}
			if got := m.files()[filepath.Join(m.root, k3s+template)]; got != wanted {
				t.Errorf("the template is %q, expected %q", got, wanted)
			}
			if got := at(m.effective(), []string{"plugins", verifiers, "bin_dir"}); got != m.l.verifiers {
				t.Errorf("in effect: %v", got)
			}
			if !slices.Contains(m.restarts, "restart "+unit) || slices.Contains(m.restarts, "restart "+ownUnit) {
				t.Errorf("restarts %q", m.restarts)
			}
			m.restarts = nil
			if done, err := m.install(); err != nil || done.Changed != 0 || len(m.restarts) > 0 {
				t.Errorf("a second time: %v %+v %s", err, done, m.restarts)
			}
			if _, err := uninstall(context.Background(), m.l, m.systemctl, func(string) store { return m }, false); err != nil {
				t.Fatal(err)
			}
			if left := differ(before, tidy(m)); len(left) > 0 {
				t.Errorf("left: %s", left)
			}
		})
	}
}

func TestAContainerdInsideAnythingElseIsLeftAsItIs(t *testing.T) {
	for _, unit := range []string{"microk8s.service", ""} {
		m := newMachine(t)
		m.unit = unit
		before := m.files()
		if _, err := m.install(); err == nil || !strings.Contains(err.Error(), "left as it is") || len(differ(before, m.files())) > 0 {
			t.Errorf("%q: got %v", unit, err)
		}
	}
}

func TestADropInGoesBesideOtherImports(t *testing.T) {
	for _, c := range []struct{ content, wanted string }{
		{"version = 3\n", "imports = [\"/d/x.toml\"]\nversion = 3\n"},
		{"imports = []\n", "imports = [\"/d/x.toml\"]\n"},
		{"imports = [\n  '/a.toml',\n]\n[x]\n", "imports = [\"/d/x.toml\", \n  '/a.toml',\n]\n[x]\n"},
		{"[x]\nimports = ['/other']\n", "imports = [\"/d/x.toml\"]\n[x]\nimports = ['/other']\n"},
		{"imports = ['/d/*.toml']\n", ""},
		{"imports = ['d/*.toml']\n", ""},
	} {
		got, err := importing([]byte(c.content), "/config.toml", "/d/x.toml")
		if err != nil || string(got) != c.wanted {
			t.Errorf("%q: got %q, %v", c.content, got, err)
		}
	}
	if _, err := importing([]byte("imports = ["), "/config.toml", "/d/x.toml"); err == nil {
		t.Error("expected an error")
	}
}

func TestASettingThatWouldBeLostIsNamed(t *testing.T) {
	before := map[string]any{"plugins": map[string]any{"a": map[string]any{"x": int64(1), "ours": true}}}
	ours := map[string]any{"plugins": map[string]any{"a": map[string]any{"ours": false}}}
	after := map[string]any{"plugins": map[string]any{"a": map[string]any{"ours": false}}}
	if got := lost(before, after, ours); !slices.Equal(got, []string{"plugins/a/x"}) {
		t.Errorf("got %q", got)
	}
	table(after, "plugins", "a")["x"] = int64(1)
	if got := lost(before, after, ours); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}
