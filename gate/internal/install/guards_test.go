package install

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/doctor"
	"countersign/gate/internal/testsign"
)

// installOn installs on a machine that does some things otherwise.
func (m *machine) installOn(change func(*host), options ...func(*Options)) (*Result, error) {
	m.t.Helper()
	h, o := m.host(), m.options()
	change(&h)
	for _, each := range options {
		each(&o)
	}
	return run(context.Background(), o, m.l, h)
}

// asked changes what containerd tells of itself.
func asked(h *host, change func(*doctor.Containerd)) {
	survey := h.survey
	h.survey = func(socket string) (*doctor.Containerd, error) {
		found, err := survey(socket)
		change(found)
		return found, err
	}
}

func TestANodeThatCannotEnforceIsLeftAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*host)
		says   string
	}{
		"as it is":       {func(*host) {}, ""},
		"too old":        {func(h *host) { asked(h, func(c *doctor.Containerd) { c.Refused = "containerd 1.7 is too old" }) }, "is too old"},
		"under no unit":  {func(h *host) { asked(h, func(c *doctor.Containerd) { c.Unit = "" }) }, "not a systemd unit"},
		"inside another": {func(h *host) { asked(h, func(c *doctor.Containerd) { c.Unit = "k3s.service" }) }, "runs inside k3s.service"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			before := m.files()
			_, err := m.installOn(c.change)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected %q", err, c.says)
			}
			if left := differ(before, m.files()); len(left) > 0 {
				t.Errorf("changed: %s", left)
			}
		})
	}
}

func TestAProgramIsAFile(t *testing.T) {
	m := newMachine(t)
	hook := filepath.Join(m.root, "src/countersign-hook")
	if err := errors.Join(os.Remove(hook), os.Mkdir(hook, 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.install(func(o *Options) { o.Plan = true }); err == nil || !strings.Contains(err.Error(), "is not a program") {
		t.Errorf("got %v", err)
	}
}

func TestWhatTheDoctorDoesNotKnowIsNotTakenForGood(t *testing.T) {
	for state, good := range map[doctor.State]bool{doctor.Unknown: false, doctor.Open: false, doctor.Warning: true, doctor.OK: true} {
		t.Run(string(state), func(t *testing.T) {
			m := newMachine(t)
			_, err := m.installOn(func(h *host) {
				h.examine = func(string) *doctor.Report {
					return &doctor.Report{Checks: []doctor.Check{{Name: "containerd.log", State: state, Note: "not to be read"}}}
				}
			})
			if good != (err == nil) || !good && !strings.Contains(err.Error(), "not to be read") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What containerd would do counts, not what the file says.
func TestContainerdHasToSayThatItDoesWhatWeAsk(t *testing.T) {
	for name, c := range map[string]struct {
		change func(effective map[string]any)
		says   string
	}{
		"it does": {func(map[string]any) {}, ""},
		"another file sets it otherwise": {func(e map[string]any) {
			table(e, "plugins", verifiers)["bin_dir"] = "/elsewhere"
		}, "would not have plugins/" + verifiers + "/bin_dir"},
		"a setting of its own is gone": {func(e map[string]any) {
			delete(table(e, "plugins", criImages), "snapshotter")
		}, "would lose its setting plugins/" + criImages + "/snapshotter"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			before := m.files()
			_, err := m.installOn(func(h *host) {
				h.dump = func(context.Context, *doctor.Containerd, string) (map[string]any, error) {
					effective := m.effective()
					c.change(effective)
					return effective, nil
				}
			})
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected %q", err, c.says)
			}
			if left := differ(before, m.files()); len(left) > 0 {
				t.Errorf("left: %s", left)
			}
		})
	}
}

func TestTheHookComesBeforeEveryOther(t *testing.T) {
	l := newMachine(t).l
	other, stale := map[string]any{"path": "/usr/bin/other"}, map[string]any{"path": l.hook(), "args": []string{"x"}}
	spec, _ := json.Marshal(map[string]any{"process": map[string]any{}, "hooks": map[string]any{"createRuntime": []any{other, stale}, "poststop": []any{other}}})
	content, err := l.withHook(spec)
	if err != nil {
		t.Fatal(err)
	}
	type hook struct {
		Path    string
		Args    []string
		Timeout int
	}
	var made struct {
		Hooks struct{ CreateRuntime, Poststop []hook }
	}
	if err := json.Unmarshal(content, &made); err != nil {
		t.Fatal(err)
	}
	got := made.Hooks.CreateRuntime
	if len(got) != 2 || got[0].Path != l.hook() || got[0].Timeout != hookTimeout || !slices.Equal(got[0].Args, []string{hookName, "--socket", l.socket()}) || got[1].Path != "/usr/bin/other" || len(made.Hooks.Poststop) != 1 {
		t.Errorf("got %+v", made.Hooks)
	}
	for name, bad := range map[string]string{"no JSON": "{", "no spec": `{"hooks":{}}`} {
		if _, err := l.withHook([]byte(bad)); err == nil || !strings.Contains(err.Error(), "not an OCI runtime spec") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEveryHandlerGetsABaseSpecWithTheHook(t *testing.T) {
	m := newMachine(t)
	m.write("etc/own.json", `{"process":{"user":{"uid":7}}}`)
	handlers := table(m.own, criRuntime, "containerd", "runtimes")
	handlers["kata"] = map[string]any{"base_runtime_spec": filepath.Join(m.root, "etc/own.json")}
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	for handler, has := range map[string]string{"runc": m.l.hook(), "kata": `"uid": 7`} {
		path, _ := at(m.effective(), []string{"plugins", criRuntime, "containerd", "runtimes", handler, "base_runtime_spec"}).(string)
		if spec := m.files()[path]; filepath.Dir(path) != m.l.etc || !strings.Contains(spec, has) || !strings.Contains(spec, m.l.hook()) {
			t.Errorf("%s: %q has %s", handler, path, spec)
		}
	}
}

func TestWhatIsSecretIsTheOwnersAlone(t *testing.T) {
	m := newMachine(t)
	if _, err := m.install(func(o *Options) { o.DockerConfig = []byte(`{"auths":{"r.example":{"auth":"dTpw"}}}`) }); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{m.l.logins(): 0o600, m.l.journal(): 0o600, m.l.lib: 0o700, m.l.evidence(): 0o700, m.l.run: 0o700, m.l.log: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; expected %o", path, info.Mode().Perm(), err, mode)
		}
	}
	if info, err := os.Stat(m.l.gate()); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the gate: %v, %v", info, err)
	}
}

func TestAPolicyNeedsASignatureWhereThereAreKeys(t *testing.T) {
	key, other := testsign.NewKey(t), testsign.NewKey(t)
	for name, signer := range map[string]*testsign.Key{"by the key": &key, "by another": &other, "by nobody": nil} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			_, err := m.install(func(o *Options) {
				o.PolicyKeys = []string{key.PEM}
				if signer != nil {
					sum := sha256.Sum256(o.Policy)
					signature, err := signer.Private.Sign(nil, sum[:], signer.Hash)
					if err != nil {
						t.Fatal(err)
					}
					o.Signatures = []byte(base64.StdEncoding.EncodeToString(signature))
				}
			})
			if signer != &key {
				if err == nil || !strings.Contains(err.Error(), string(code.PolicyInvalid)) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var settings struct{ PolicyKeys []string }
			if err := json.Unmarshal([]byte(m.files()[m.l.config()]), &settings); err != nil || !slices.Equal(settings.PolicyKeys, []string{key.PEM}) {
				t.Errorf("gate.json asks for signatures by %q, %v", settings.PolicyKeys, err)
			}
		})
	}
}

// The sandbox has no hook: its image is pinned by digest, wherever that is read.
func TestTheSandboxIsPinnedByDigest(t *testing.T) {
	m := newMachine(t)
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	var settings struct{ Pinned []string }
	if err := json.Unmarshal([]byte(m.files()[m.l.config()]), &settings); err != nil || !slices.Equal(settings.Pinned, []string{sandboxPin}) {
		t.Errorf("gate.json pins %q, %v", settings.Pinned, err)
	}
	if got := at(m.effective(), []string{"plugins", criImages, "pinned_images", "sandbox"}); got != sandboxPin {
		t.Errorf("containerd has %v", got)
	}
}

func TestRestoresAreSwitchedOff(t *testing.T) {
	m := newMachine(t)
	table(m.own, criRuntime)["enable_criu"] = true
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	if got := at(m.effective(), []string{"plugins", criRuntime, "enable_criu"}); got != false {
		t.Errorf("enable_criu is %v", got)
	}
}

func TestOtherRequiredPluginsStay(t *testing.T) {
	m := newMachine(t)
	table(m.own, nriPlugin, "default_validator")["required_plugins"] = []any{"theirs"}
	if _, err := m.install(); err != nil {
		t.Fatal(err)
	}
	if got := texts(at(m.effective(), []string{"plugins", nriPlugin, "default_validator", "required_plugins"})); !slices.Equal(got, []string{"theirs", plugin}) {
		t.Errorf("got %q", got)
	}
}

// A runtime that still asks for the hook must not find it gone: its own settings go first.
func TestTheRuntimeIsTakenOffBeforeWhatItAsksFor(t *testing.T) {
	for name, fails := range map[string]string{"it starts": "", "it does not": "restart -- containerd.service"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if _, err := m.install(); err != nil {
				t.Fatal(err)
			}
			m.fails = fails
			_, err := uninstall(context.Background(), m.l, m.systemctl, func(string) store { return m }, false)
			if (err == nil) != (fails == "") {
				t.Fatalf("got %v", err)
			}
			if there(m.l.dropIn) {
				t.Error("containerd's settings are still there")
			}
			if there(m.l.hook()) != (fails != "") {
				t.Error("the hook: gone while the runtime may ask for it, or left")
			}
		})
	}
}

func TestWhatInstallDidNotPutThereIsNotTakenOff(t *testing.T) {
	m := newMachine(t)
	if done, err := uninstall(context.Background(), m.l, m.systemctl, func(string) store { return m }, false); err != nil || done.Changed != 0 {
		t.Fatalf("nothing there: %+v, %v", done, err)
	}
	m.write("etc/countersign/gate.json", "{}")
	before := m.files()
	if _, err := uninstall(context.Background(), m.l, m.systemctl, func(string) store { return m }, false); err == nil || !strings.Contains(err.Error(), "did not put it there") {
		t.Errorf("got %v", err)
	}
	if left := differ(before, m.files()); len(left) > 0 {
		t.Errorf("changed: %s", left)
	}
}

func TestAJournalThatIsNoneStopsEverything(t *testing.T) {
	for name, content := range map[string]string{"cut off": `{"version":`, "another version": `{"version":"countersign.installed/v2"}`} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.write("var/lib/countersign/installed.json", content)
			before := m.files()
			if _, err := m.install(); err == nil || !strings.Contains(err.Error(), "installed.json") {
				t.Errorf("got %v", err)
			}
			if left := differ(before, m.files()); len(left) > 0 {
				t.Errorf("changed: %s", left)
			}
		})
	}
}

// What cannot be put back is not replaced.
func TestWhatCannotBePutBackIsNotReplaced(t *testing.T) {
	for name, put := range map[string]func(*testing.T, string){
		"a folder": func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		},
		"a file that is too large": func(t *testing.T, path string) {
			if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, maxKept+1)); err != nil {
				t.Fatal(err)
			}
		},
		"a file": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			put(t, path)
			j := &journal{Version: journalVersion, path: filepath.Join(t.TempDir(), "installed.json")}
			if err := j.note(path); (err == nil) != (name == "a file") {
				t.Errorf("got %v", err)
			}
		})
	}
}
