package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"countersign/gate/internal/config"
	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
)

// crioMachine is a node with CRI-O: its own configuration, and files beside it.
type crioMachine struct {
	*machine
	own     map[string]any // settings beside files
	flags   map[string]any // of its command line, which count more than files
	refused string
	service string
	unread  bool // it does not read what lies there
	forgets bool // it loses a setting of its own
	running map[string]any
}

const (
	ownHooks = "/usr/share/containers/oci/hooks.d"
	theirs   = "[crio.image]\npause_image_auth_file = \"/etc/auth.json\"\n"
)

func newCrio(t *testing.T) *crioMachine {
	t.Helper()
	m := newMachine(t)
	m.unit = crioUnit
	m.l.registriesD = filepath.Join(m.root, "etc/containers/registries.d/countersign.yaml")
	m.l.crioCerts = filepath.Join(m.root, "etc/containers/certs.d")
	m.write("etc/crio/crio.conf.d/10-crio.conf", theirs)
	m.write("etc/containers/registries.d/default.yaml", "docker: {}\n")
	c := &crioMachine{machine: m, service: crioUnit, own: map[string]any{
		"root": "/var/lib/containers/storage", "runroot": "/run/containers/storage",
		"runtime": map[string]any{"hooks_dir": []any{ownHooks}, "enable_criu_support": true},
		restores:  map[string]any{"container_level_enabled": "checkpoint_restore"},
		"image":   map[string]any{"pause_image": sandboxTag, "signature_policy": "/etc/crio/policy.json"},
		"nri":     map[string]any{"enable_nri": true, "nri_listen": "/var/run/nri/nri.sock", "default_validator": map[string]any{"nri_enable_default_validator": false}},
	}}
	c.running = c.files()
	return c
}

// files merges what lies there as CRI-O does: later files win, key by key.
func (c *crioMachine) files() map[string]any {
	c.t.Helper()
	found := clone(c.own)
	names, err := filepath.Glob(filepath.Join(c.root, "etc/crio/crio.conf.d", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range names {
		var document map[string]any
		content, err := os.ReadFile(name)
		if err == nil {
			err = toml.Unmarshal(content, &document)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		inner, _ := document["crio"].(map[string]any)
		merge(found, inner)
	}
	merge(found, c.flags)
	if at(found, []string{"runtime", "enable_criu_support"}) == false { // as CRI-O translates it
		table(found, restores)["container_level_enabled"] = "none"
	}
	if c.forgets {
		return found
	}
	pinned := []any{"registry.example/kept:1"} // and so it pins its sandbox image
	table(found, "image")["pinned_images"] = append(pinned, at(found, []string{"image", "pause_image"}))
	return found
}

func (c *crioMachine) systemctl(ctx context.Context, arguments ...string) (string, error) {
	out, err := c.machine.systemctl(ctx, arguments...)
	if err == nil && strings.Join(arguments, " ") == "restart -- "+crioUnit {
		c.running = c.files()
	}
	return out, err
}

func (c *crioMachine) host() host {
	h := c.machine.host()
	h.systemctl = c.systemctl
	h.surveyCrio = func(string) (*doctor.Crio, error) {
		return &doctor.Crio{
			Version: "1.37.0", Unit: c.service, Config: c.running, DropIns: filepath.Join(c.root, "etc/crio/crio.conf.d"),
			Home: filepath.Join(c.root, "root"), Refused: c.refused, Started: c.runtime,
		}, nil
	}
	h.readsCrio = func(context.Context, *doctor.Crio) error {
		if c.unread {
			return errors.New("it does not read it")
		}
		return nil
	}
	return h
}

func (c *crioMachine) install(change ...func(*Options)) (*Result, error) {
	c.t.Helper()
	o := c.options()
	o.Socket, o.Crio = "/var/run/crio/crio.sock", true
	for _, each := range change {
		each(&o)
	}
	return run(context.Background(), o, c.l, c.host())
}

func (c *crioMachine) uninstall() error {
	_, err := uninstall(context.Background(), c.l, c.systemctl, func(string) store { return c }, false)
	return err
}

// left names what is not as it was.
func (c *crioMachine) left(before map[string]string) []string {
	return differ(before, c.machine.files())
}

func TestInstallBringsACrioUnderEnforcementAndUninstallTakesItOffByteByByte(t *testing.T) {
	c := newCrio(t)
	before := c.machine.files()
	done, err := c.install()
	if err != nil {
		t.Fatal(err)
	}
	if done.Changed != len(done.Steps) || done.Receipt == nil || done.Sandbox != sandboxPin || done.Runtime != "CRI-O 1.37.0" {
		t.Fatalf("got %+v", done)
	}
	for path, wanted := range map[string]any{
		"runtime/hooks_dir":                                    []any{ownHooks, c.l.hooks()},
		"runtime/enable_criu_support":                          false,
		"image/signature_policy":                               c.l.enginePolicy(),
		"image/signature_policy_dir":                           c.l.namespaces(),
		"image/pause_image":                                    sandboxPin,
		"image/pause_image_auth_file":                          "/etc/auth.json",
		"nri/nri_disable_connections":                          false,
		"nri/default_validator/nri_validator_required_plugins": []any{plugin},
		"nri/default_validator/nri_enable_default_validator":   true,
	} {
		if got := at(c.running, strings.Split(path, "/")); fmt.Sprint(got) != fmt.Sprint(wanted) {
			t.Errorf("%s is %v, expected %v", path, got, wanted)
		}
	}
	settings, err := config.Load(c.l.config())
	if err != nil || settings.Crio == nil || settings.Crio.Engine == nil || settings.Crio.Root != "/var/lib/containers/storage" {
		t.Fatalf("gate.json: %v, %+v", err, settings)
	}
	p, err := settings.PolicyFile().Load()
	if err != nil {
		t.Fatal(err)
	}
	if differs, err := settings.PolicyFile().Engine.Differs(p); err != nil || differs {
		t.Errorf("CRI-O's own engine has another policy: %v", err)
	}
	var hook struct {
		Hook struct {
			Path    string
			Args    []string
			Timeout int
		}
		Stages []string
		When   struct{ Always bool }
	}
	if err := json.Unmarshal([]byte(c.machine.files()[filepath.Join(c.l.hooks(), crioHook)]), &hook); err != nil || hook.Hook.Path != c.l.hook() || hook.Hook.Timeout != hookTimeout || !hook.When.Always {
		t.Errorf("the hook: %v, %+v", err, hook)
	}
	if info, err := os.Stat(c.l.namespaces()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others can write policies for namespaces: %v, %v", info, err)
	}

	if err := c.uninstall(); err != nil {
		t.Fatal(err)
	}
	if left := c.left(before); len(left) > 0 {
		t.Errorf("the node is not as it was: %s", left)
	}
	if got := at(c.running, []string{"image", "pause_image"}); got != sandboxTag {
		t.Errorf("CRI-O still runs by %v", got)
	}
}

func TestASecondInstallOnCrioChangesNothing(t *testing.T) {
	c := newCrio(t)
	if _, err := c.install(); err != nil {
		t.Fatal(err)
	}
	before := c.machine.files()
	c.restarts = nil
	if done, err := c.install(); err != nil || done.Changed != 0 || len(c.restarts) > 0 || len(c.left(before)) > 0 {
		t.Errorf("%v %+v %s %s", err, done, c.restarts, c.left(before))
	}
	if done, err := c.install(func(o *Options) { o.Lenient = true }); err != nil || done.Changed == 0 {
		t.Errorf("a lenient engine is the same: %v %+v", err, done)
	}
}

func TestACrioThatCannotEnforceIsLeftAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(*crioMachine)
		says   string
	}{
		"as it is":          {func(*crioMachine) {}, ""},
		"too old":           {func(c *crioMachine) { c.refused = "CRI-O is version 1.33.0" }, "1.33.0; this node is left as it is"},
		"no unit":           {func(c *crioMachine) { c.service = "" }, "expected the systemd unit crio.service"},
		"a podman":          {func(c *crioMachine) { c.service = "podman.service" }, "expected the systemd unit crio.service"},
		"no sandbox":        {func(c *crioMachine) { delete(c.images, sandboxTag) }, "no such registry"},
		"elsewhere":         {func(c *crioMachine) { c.write("etc/countersign/gate.json", "{}") }, "set up from another machine"},
		"a file in the way": {func(c *crioMachine) { c.write("etc/countersign", "") }, "not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newCrio(t)
			c.breaks(m)
			before := m.machine.files()
			_, err := m.install()
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected %q", err, c.says)
			}
			if left := m.left(before); len(left) > 0 || len(m.restarts) > 0 {
				t.Errorf("changed: %s, %s", left, m.restarts)
			}
		})
	}
}

func TestWhatFailsOnCrioIsTakenBack(t *testing.T) {
	for name, breaks := range map[string]func(*crioMachine){
		"the proof": func(c *crioMachine) {
			c.problems = []prove.Problem{{Where: "start", Found: "allowed", Expected: "refused"}}
		},
		"the doctor":             func(c *crioMachine) { c.open = true },
		"the gate":               func(c *crioMachine) { c.fails = "restart -- " + unit },
		"the restart":            func(c *crioMachine) { c.fails = "restart -- " + crioUnit },
		"the reading":            func(c *crioMachine) { c.unread = true },
		"a setting that is lost": func(c *crioMachine) { c.running, c.forgets = c.files(), true },
		"a later file":           func(c *crioMachine) { c.write("etc/crio/crio.conf.d/99-zz.conf", "[crio.nri]\nenable_nri = false\n") },
		"its command line": func(c *crioMachine) {
			c.flags = map[string]any{"image": map[string]any{"signature_policy": "/other.json"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrio(t)
			c.running = c.files()
			if breaks(c); !c.forgets {
				c.running = c.files()
			}
			before, ran := c.machine.files(), c.running
			if _, err := c.install(); err == nil || !strings.HasSuffix(err.Error(), "; the node is as it was before") {
				t.Fatalf("got %v", err)
			}
			if left := c.left(before); len(left) > 0 {
				t.Errorf("left: %s", left)
			}
			if !c.forgets && !strings.Contains(fmt.Sprint(c.running), fmt.Sprint(ran)) {
				t.Errorf("CRI-O runs by %v, and ran by %v", c.running, ran)
			}
		})
	}
}

// killed ends a run in the middle, with nothing taken back.
type killed struct{}

// A node on which install was killed is brought on by the next one, or as it was.
func TestWhatWasKilledIsGoneOnWithOrTakenOff(t *testing.T) {
	steps := func() int {
		c := newCrio(t)
		done, err := c.install()
		if err != nil {
			t.Fatal(err)
		}
		return len(done.Steps)
	}()
	for after := range steps {
		for _, then := range []string{"install", "uninstall", "an install that fails", "an install that is in the way"} {
			t.Run(fmt.Sprintf("after step %d/%s", after+1, then), func(t *testing.T) {
				c := newCrio(t)
				before := c.machine.files()
				said := 0
				func() {
					defer func() {
						if _, ok := recover().(killed); !ok {
							t.Fatal("it was not killed")
						}
					}()
					_, _ = c.install(func(o *Options) {
						o.Say = func(string) {
							if said++; said > after {
								panic(killed{})
							}
						}
					})
				}()
				switch then {
				case "install":
					if done, err := c.install(); err != nil || done.Receipt == nil {
						t.Fatal(err)
					}
				case "an install that fails":
					c.problems = []prove.Problem{{Where: "start", Found: "allowed", Expected: "refused"}}
					if _, err := c.install(); err == nil || !strings.HasSuffix(err.Error(), "; the node is as it was before") {
						t.Fatalf("got %v", err)
					}
				case "an install that is in the way":
					c.refused = "it restores checkpoints"
					if _, err := c.install(); err == nil || !strings.Contains(err.Error(), "an install was cut off here before") {
						t.Fatalf("got %v", err)
					}
				}
				if then != "an install that fails" {
					if err := c.uninstall(); err != nil {
						t.Fatal(err)
					}
				}
				if left := c.left(before); len(left) > 0 {
					t.Errorf("left: %s", left)
				}
				if got := at(c.running, []string{"image", "pause_image"}); got != sandboxTag {
					t.Errorf("CRI-O still runs by %v", got)
				}
			})
		}
	}
}

// CRI-O may start again by itself once the drop-in lies there.
func TestACrioThatRestartedByItselfIsTakenOff(t *testing.T) {
	c := newCrio(t)
	before := c.machine.files()
	c.fails = "restart -- " + crioUnit
	func() {
		defer func() { _ = recover() }()
		h := c.host()
		inner := h.readsCrio
		h.readsCrio = func(ctx context.Context, of *doctor.Crio) error {
			_ = inner(ctx, of)
			panic(killed{})
		}
		o := c.options()
		o.Crio = true
		_, _ = run(context.Background(), o, c.l, h)
	}()
	c.fails, c.restarts = "", nil
	c.running = c.files() // it crashed, and systemd brought it up
	if err := c.uninstall(); err != nil {
		t.Fatal(err)
	}
	if left := c.left(before); len(left) > 0 || !slices.Contains(c.restarts, "restart "+crioUnit) {
		t.Errorf("left: %s; restarted: %s", left, c.restarts)
	}
}

// CRI-O reads every file of the folder, whatever its name.
func TestNoUnfinishedFileIsLeftWhereCrioWouldReadIt(t *testing.T) {
	c := newCrio(t)
	before := c.machine.files()
	if _, err := c.install(); err != nil {
		t.Fatal(err)
	}
	dropIn := filepath.Join(c.root, "etc/crio/crio.conf.d", crioDropIn)
	if err := os.Rename(dropIn, coming(dropIn)); err != nil { // as one that was killed leaves it
		t.Fatal(err)
	}
	c.write("etc/containers/certs.d/"+prove.Registry+"/ca.crt", "of a proof") // and so does one that was proving
	if err := c.uninstall(); err != nil {
		t.Fatal(err)
	}
	if got := at(c.running, []string{"image", "pause_image"}); got != sandboxTag {
		t.Errorf("CRI-O still runs by %v", got)
	}
	if left := c.left(before); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
}

func TestAFileIsPutBackWithItsOwnerModeAndTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("theirs"), 0o640); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	if err := errors.Join(os.Chown(path, os.Getuid(), os.Getgid()), os.Chmod(path, 0o2640), os.Chtimes(path, long, long)); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := errors.Join(os.Chown(path, 7, 8), os.Chmod(path, 0o640|os.ModeSetgid), os.Chtimes(path, long, long)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{Version: journalVersion, path: filepath.Join(t.TempDir(), "installed.json")}
	if err := errors.Join(j.note(path), replace(path, []byte("ours"), 0o644)); err != nil {
		t.Fatal(err)
	}
	read, err := openJournal(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := back(read.Files); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) || *owned(after) != *owned(before) {
		t.Errorf("%v: got %v %v %v, expected %v %v %v", err, after.Mode(), after.ModTime(), *owned(after), before.Mode(), before.ModTime(), *owned(before))
	}
}

func TestANodeWithAnotherRuntimeNowIsNotGoneOnWith(t *testing.T) {
	c := newCrio(t)
	if _, err := c.install(); err != nil {
		t.Fatal(err)
	}
	before := c.machine.files()
	c.machine.unit = ownUnit
	if _, err := c.machine.install(); err == nil || !strings.Contains(err.Error(), "run countersign-gate uninstall first") {
		t.Errorf("got %v", err)
	}
	if left := c.left(before); len(left) > 0 {
		t.Errorf("changed: %s", left)
	}
}

func TestWhatRestoresCheckpointsStaysOffAtASecondInstallWhereThereIsOnlyItsTable(t *testing.T) {
	c := newCrio(t)
	delete(c.own["runtime"].(map[string]any), "enable_criu_support")
	c.running = c.files()
	for _, again := range []bool{false, true} {
		done, err := c.install()
		if err != nil {
			t.Fatal(err)
		}
		if (done.Changed == 0) != again {
			t.Errorf("again %v: %d steps changed something", again, done.Changed)
		}
		if got := at(c.running, []string{restores, "container_level_enabled"}); got != "none" {
			t.Errorf("again %v: got %v", again, got)
		}
	}
}
