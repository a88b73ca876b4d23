package doctor

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWhatIsWrongWithTheGateIsTold(t *testing.T) {
	eachIsTold(t, false, Open, []one{
		{"a gate that observes", func(w *world) { w.ping.Mode = "observing" }, "gate.answers", "the gate is observing, not enforcing, expected a gate that enforces"},
		{"another policy in force", func(w *world) { w.ping.Policy = "sha256:0" }, "gate.policy", "the policy in force is sha256:0, expected sha256:"},
		{"no policy in force", func(w *world) { w.ping.Policy = "" }, "gate.policy", "none: everything is refused"},
		{"a newer policy that is not in force", func(w *world) { w.edit("etc/policy.json", `"roots"`, ` "roots"`) }, "gate.policy", "which lies in"},
		{"another program runs", func(w *world) {
			w.write("bin/countersign-gate (deleted)", gateProgram+"\n", 0o755) // as the kernel shows it
			w.link("bin/countersign-gate (deleted)", "bin/running")
		}, "gate.program", "expected the one that lies there, sha256:"},
		{"a gate that does not tell its number", func(w *world) { w.ping.PID = 0 }, "gate.program", "does not tell its number"},
		{"no hook", func(w *world) { w.remove("bin/countersign-hook") }, "gate.hook", "countersign-hook is missing"},
		{"another program as hook", func(w *world) { w.write("bin/countersign-hook", "true", 0o755) }, "gate.hook", "is another program, expected countersign-hook"},
		{"a hook that can't be run", func(w *world) { w.chmod("bin/countersign-hook", 0o644) }, "gate.hook", "is not a program that can be run"},
		{"a hook that others can write to", func(w *world) { w.chmod("bin/countersign-hook", 0o757) }, "gate.files", "with mode 757"},
		{"a policy that others can write to", func(w *world) { w.chmod("etc/policy.json", 0o664) }, "gate.files", "with mode 664"},
		{"a gate.json that others can write to", func(w *world) { w.chmod("etc/gate.json", 0o646) }, "gate.files", "with mode 646"},
		{"a folder that others can write to", func(w *world) { w.chmod("etc", 0o777) }, "gate.files", "with mode 777"},
		{"a plugin that is not connected", func(w *world) { w.ping.NRI = "disconnected" }, "gate.plugin", "is disconnected, expected connected"},
		{"a plugin that another runtime's NRI keeps away", func(w *world) {
			w.ping.NRI, w.strange = "disconnected", errors.New("another runtime serves this NRI socket")
		}, "gate.plugin", "is another runtime serves this NRI socket, expected connected"},
		{"a gate that is not a plugin", func(w *world) { w.ping.NRI = "off" }, "gate.plugin", "is off, expected connected"},
		{"a gate that does not tell", func(w *world) { w.ping.NRI = "" }, "gate.plugin", "is unknown, expected connected"},
	})
}

func TestAGateThatDoesNotAnswerIsTold(t *testing.T) {
	w := newWorld(t, false)
	w.ping = nil
	report := w.look()
	if open, unknown := states(report, Open), states(report, Unknown); !slices.Equal(open, []string{"gate.answers"}) || !slices.Equal(unknown, []string{"gate.policy", "gate.program", "gate.plugin"}) {
		t.Errorf("open: %q, unknown: %q", open, unknown)
	}
}

func TestFilesOfAnotherUserAreTold(t *testing.T) {
	w := newWorld(t, false)
	node := w.node()
	node.owner++
	if found, err := filesAreRoots(node); err != nil || len(found) < 4 || !strings.Contains(found[0].Found, "of user") {
		t.Errorf("got %q, %v", found, err)
	}
}

// laid gives the record of these files of a node as they are.
func (w *world) laid(names ...string) map[string]Laid {
	w.t.Helper()
	found := map[string]Laid{}
	for _, name := range names {
		laid, err := laidAt(w.path(name))
		if err != nil {
			w.t.Fatal(err)
		}
		found[w.path(name)] = laid
	}
	return found
}

func TestWhatWasReplacedIsTold(t *testing.T) {
	recorded := func(change func(*world)) func(*world) {
		return func(w *world) {
			w.write("etc/kept", "as it was", 0o644)
			w.record = w.laid("etc/kept", "verifiers/countersign-image-verifier", "bin/countersign-gate")
			change(w)
		}
	}
	w := newWorld(t, false)
	recorded(func(*world) {})(w)
	if report := w.look(); !report.OK || report.Count(Skipped) != 0 {
		t.Errorf("open: %q", states(report, Open))
	}
	eachIsTold(t, false, Open, []one{
		{"another content", recorded(func(w *world) { w.write("etc/kept", "as it is", 0o644) }), "gate.record", "/etc/kept is sha256:"},
		{"another mode", recorded(func(w *world) { w.chmod("etc/kept", 0o600) }), "gate.record", "with mode 600"},
		{"nothing", recorded(func(w *world) { w.remove("etc/kept") }), "gate.record", "/etc/kept is missing"},
		{"a link", recorded(func(w *world) {
			w.remove("etc/kept")
			if err := os.Symlink("/dev/null", w.path("etc/kept")); err != nil {
				w.t.Fatal(err)
			}
		}), "gate.record", "/etc/kept is a link to /dev/null"},
		{"another link", recorded(func(w *world) {
			w.remove("verifiers/countersign-image-verifier")
			if err := os.Symlink("../bin/countersign-gate", w.path("verifiers/countersign-image-verifier")); err != nil {
				w.t.Fatal(err)
			}
		}), "gate.record", "is a link to ../bin/countersign-gate"},
		{"a folder", recorded(func(w *world) { w.remove("etc/kept"); w.folder("etc/kept") }), "gate.record", "is not a file"},
	})
}

func TestTheRunningGateIsTheRecordedOne(t *testing.T) {
	w := newWorld(t, false)
	w.record = w.laid("bin/countersign-gate")
	if report := w.look(); !report.OK {
		t.Errorf("open: %q", states(report, Open))
	}
	w.write("bin/countersign-gate", gateProgram+" ", 0o755) // another one lies there, and runs
	if open := states(w.look(), Open); !slices.Equal(open, []string{"gate.program", "gate.record"}) {
		t.Errorf("open: %q", open)
	}
}

func TestARecordIsReadOrToldOf(t *testing.T) {
	good := `{"version": "countersign.record/v1", "files": {"/a": {"kind": "f", "mode": 420, "sha256": "00"}, "/b": {"kind": "l", "mode": 0, "target": "/a"}}}`
	found, err := readRecord(strings.NewReader(good))
	if err != nil || found["/a"].Mode != 0o644 || found["/b"].Target != "/a" {
		t.Errorf("got %v, %v", found, err)
	}
	for _, bad := range []string{"", "{", `{"version": "countersign.record/v2", "files": {"/a": {}}}`, `{"version": "countersign.record/v1", "files": {}}`} {
		if found, err := readRecord(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: got %v", bad, found)
		}
		w := newWorld(t, false)
		report := Look(Options{Config: w.path("etc/gate.json"), Record: strings.NewReader(bad)})
		at := slices.IndexFunc(report.Checks, func(c Check) bool { return c.Name == "gate.record" })
		if check := report.Checks[at]; check.State != Unknown || len(check.Findings) != 1 || report.OK {
			t.Errorf("%q: got %+v", bad, check)
		}
	}
}

func TestAProgramSaysWhatItWasBuiltFrom(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if found := mainOf(self); found != "countersign/gate/internal/doctor.test" {
		t.Errorf("got %q", found)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if found := mainOf(script); found != "" {
		t.Errorf("a script is %q", found)
	}
}

func TestWhatSetUpMendsNamesIt(t *testing.T) {
	for setup, mend := range map[string]string{
		"./inv containerd.setup --on kind": "run ./inv containerd.setup --on kind",
		"":                                 "set discard_unpacked_layers = false in [plugins.'io.containerd.cri.v1.images'] of ",
	} {
		w := newWorld(t, false)
		w.setup = setup
		w.say("discard_unpacked_layers = false", "discard_unpacked_layers = true")
		for _, check := range w.look().Checks {
			if check.State == Open && !strings.HasPrefix(check.Findings[0].Mend, mend) {
				t.Errorf("%q: got %q", setup, check.Findings[0].Mend)
			}
		}
	}
}

func TestWithoutGateJSONThatIsWhatIsTold(t *testing.T) {
	w := newWorld(t, false)
	w.write("etc/gate.json", "{", 0o644)
	for _, path := range []string{w.path("none.json"), w.path("etc/gate.json")} {
		report := Look(Options{Config: path})
		if open := states(report, Open); !slices.Equal(open, []string{"gate.config"}) || report.OK {
			t.Errorf("%s: got %q", path, open)
		}
	}
}

func TestAListNamesEveryCheckAndLooksAtNothing(t *testing.T) {
	for config, count := range map[string]int{"": len(gateChecks()) + len(containerdChecks()) + len(crioChecks()), "crio": len(gateChecks()) + len(crioChecks())} {
		path := filepath.Join(t.TempDir(), "gate.json")
		if config != "" {
			path = newWorld(t, true).path("etc/gate.json")
		}
		report := List(Options{Config: path})
		if report.Count(Listed) != count || len(report.Checks) != count {
			t.Errorf("%q: got %d checks, expected %d", config, len(report.Checks), count)
		}
		names := map[string]bool{}
		for _, check := range report.Checks {
			if names[check.Name] || check.LooksAt == "" || check.Wanted == "" {
				t.Errorf("got %+v", check)
			}
			names[check.Name] = true
		}
	}
}

func TestTheDocumentHasEachFindingWithWhatMendsIt(t *testing.T) {
	w := newWorld(t, true)
	w.say(`"oci"`, `"vm"`)
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(json.NewEncoder(writer).Encode(w.look())) }()
	var found struct {
		Version string
		OK      bool
		Checks  []struct {
			Check, State string
			Findings     []struct{ Where, Found, Wanted, Mend string }
		}
	}
	if err := json.NewDecoder(reader).Decode(&found); err != nil || found.Version != "countersign.doctor/v1" || found.OK {
		t.Fatalf("got %+v, %v", found, err)
	}
	for _, check := range found.Checks {
		if each := check.Findings; check.State == "open" && (check.Check != "crio.handlers" || each[0].Where == "" || each[0].Found != `"vm"` || each[0].Wanted == "" || each[0].Mend == "") {
			t.Errorf("got %+v", check)
		}
	}
}
