package doctor

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func TestAContainerdThatEnforcesPasses(t *testing.T) {
	report := newWorld(t, false).look()
	if !report.OK || report.Count(OK) != len(report.Checks)-1 || report.Runtime.Version != "2.4.2" {
		t.Errorf("got open %q, unknown %q, warnings %q, skipped %q", states(report, Open), states(report, Unknown), states(report, Warning), states(report, Skipped))
	}
	if skipped := states(report, Skipped); len(skipped) != 1 || skipped[0] != "gate.record" {
		t.Errorf("skipped: %q", skipped)
	}
}

// say gives a change of what the runtime says.
func say(old, now string) func(*world) { return func(w *world) { w.say(old, now) } }

func TestWhatSwitchesContainerdOffIsTold(t *testing.T) {
	other := "runtimes.other]\n      runtime_type = \"io.containerd.runc.v2\""
	eachIsTold(t, false, Open, []one{
		{"local pulls", say("use_local_image_pull = false", "use_local_image_pull = true"), "containerd.use_local_image_pull", "use_local_image_pull is true, expected false"},
		{"a setting that it does not know", say("use_local_image_pull = false", ""), "containerd.use_local_image_pull", "use_local_image_pull is absent, expected false"},
		{"snapshot annotations", say("disable_snapshot_annotations = true", "disable_snapshot_annotations = false"), "containerd.disable_snapshot_annotations", "is false, expected true"},
		{"layers discarded", say("discard_unpacked_layers = false", "discard_unpacked_layers = true"), "containerd.discard_unpacked_layers", "is true, expected false"},
		{"more downloads", say("max_concurrent_downloads = 3", "max_concurrent_downloads = 5"), "containerd.max_concurrent_downloads", "is 5, expected 3"},
		{"synced pulls", say("image_pull_with_sync_fs = false", "image_pull_with_sync_fs = true"), "containerd.image_pull_with_sync_fs", "is true, expected false"},
		{"a mirror", say("registry.mirrors]", "registry.mirrors.\"docker.io\"]"), "containerd.registry", "registry.mirrors is set, expected empty"},
		{"a registry's configuration", say("registry.mirrors]", "registry.configs.a]"), "containerd.registry", "registry.configs is set"},
		{"a login", say("registry.mirrors]", "registry.auths.a]"), "containerd.registry", "registry.auths is set"},
		{"a sandbox by tag", say("pause@"+pause, "pause:3.10"), "containerd.sandbox", `pause:3.10", expected an image by digest`},
		{"a sandbox that is not pinned", say("pause@"+pause, "pause@sha256:"+strings.Repeat("0", 64)), "containerd.sandbox", "which the policy does not pin"},
		{"another folder of verifiers", say("/verifiers\"", "/nowhere\""), "containerd.verifier", "/nowhere\", without our verifier"},
		{"no verifier", func(w *world) { w.remove("verifiers/countersign-image-verifier") }, "containerd.verifier", "without our verifier"},
		{"another verifier's name", func(w *world) {
			w.remove("verifiers/countersign-image-verifier")
			w.write("verifiers/another", gateProgram, 0o755)
		}, "containerd.verifier", "without our verifier"},
		{"another program as verifier", func(w *world) {
			w.remove("verifiers/countersign-image-verifier")
			w.write("verifiers/countersign-image-verifier", "another", 0o755)
		}, "containerd.verifier", "is another program, expected countersign-gate"},
		{"a verifier that can't be run", func(w *world) {
			w.remove("verifiers/countersign-image-verifier")
			w.write("verifiers/countersign-image-verifier", gateProgram, 0o644)
		}, "containerd.verifier", "is not a program that can be run"},
		{"a folder of verifiers that others can write to", func(w *world) { w.chmod("verifiers", 0o777) }, "containerd.verifier", "with mode 777"},
		{"verifiers before ours", func(w *world) { w.write("verifiers/another", "", 0o755) }, "containerd.verifier", "max_verifiers is 1, expected more than 1"},
		{"no verifiers at all", say("max_verifiers = 1", "max_verifiers = 0"), "containerd.verifier", "max_verifiers is 0, expected more than 0"},
		{"too little time", say(`"30s"`, `"20s"`), "containerd.per_verifier_timeout", "expected more than 20s"},
		{"no time", say(`"30s"`, `"soon"`), "containerd.per_verifier_timeout", "expected more than 20s"},
		{"no verifier plugin", say("snapshotter.v1.zfs", "image-verifier.v1"), "containerd.disabled_plugins", "disabled_plugins is with io.containerd.image-verifier.v1"},
		{"no transfer service", say("snapshotter.v1.zfs", "transfer.v1.local"), "containerd.disabled_plugins", "with io.containerd.transfer.v1.local"},
		{"no NRI", say("snapshotter.v1.zfs", "nri.v1.nri"), "containerd.disabled_plugins", "with io.containerd.nri.v1.nri"},
		{"checkpoints, as 2.4 has them on", say("enable_criu = false", ""), "containerd.restore", "enable_criu is true, expected false"},
		{"checkpoints by the newer name", say("enable_criu = false", "enable_criu = false\n  enable_checkpoint_restore = true"), "containerd.restore", "enable_checkpoint_restore is true"},
		{"a handler without a spec", func(w *world) { w.say(w.path("etc/other.json"), "") }, "containerd.handlers", "handler other: base_runtime_spec is empty"},
		{"a handler of another runtime", say(other, strings.Replace(other, "runc.v2", "kata.v2", 1)), "containerd.handlers", `handler other: runtime_type is "io.containerd.kata.v2"`},
		{"a handler with a snapshotter", say("other.json\"\n      snapshotter = \"\"", "other.json\"\n      snapshotter = \"nydus\""), "containerd.handlers", `handler other: snapshotter is "nydus"`},
		{"NRI off", say("  disable = false", "  disable = true"), "containerd.nri.disable", "nri.disable is true, expected false"},
		{"no plugins from outside", say("disable_connections = false", "disable_connections = true"), "containerd.nri.disable_connections", "is true, expected false"},
		{"no validator", say("    enable = true", "    enable = false"), "containerd.nri.validator", "default_validator.enable is false, expected true"},
		{"the gate not required", say(`, "countersign"]`, "]"), "containerd.nri.required_plugins", `required_plugins is ["another"], expected one with "countersign"`},
		{"nothing required", say(`required_plugins = ["another", "countersign"]`, ""), "containerd.nri.required_plugins", "required_plugins is []"},
		{"a waiver", say(`plugins_annotation = ""`, `plugins_annotation = "waive.me"`), "containerd.nri.tolerate_missing_plugins_annotation", `annotation is "waive.me", expected ""`},
		{"its own word", func(w *world) {
			w.log = "starting containerd\nFound 'DiscardUnpackedLayers' in CRI config … " + fallback + ".\n"
		}, "containerd.log", "no such line"},
	})
}

func TestWhatLiesThereIsToldWithItsFile(t *testing.T) {
	eachIsTold(t, false, Open, []one{
		{"a base spec that is missing", func(w *world) { w.remove("etc/other.json") }, "containerd.handlers", "/etc/other.json is without our createRuntime hook"},
		{"no JSON", func(w *world) { w.write("etc/other.json", "{", 0o644) }, "containerd.handlers", "/etc/other.json is without"},
		{"no hook", func(w *world) { w.write("etc/other.json", "{}", 0o644) }, "containerd.handlers", "/etc/other.json is without"},
		{"another gate", func(w *world) { w.edit("etc/other.json", "gate.sock", "none.sock") }, "containerd.handlers", "/etc/other.json is without"},
		{"another program", func(w *world) { w.edit("etc/other.json", "bin/countersign-hook", "bin/true") }, "containerd.handlers", "/etc/other.json is without"},
		{"a hook that waits", func(w *world) { w.edit("etc/other.json", `"timeout": 10`, `"timeout": 100`) }, "containerd.handlers", "/etc/other.json is without"},
		{"a hook with an environment", func(w *world) { w.edit("etc/other.json", `"timeout"`, `"env": ["A=b"], "timeout"`) }, "containerd.handlers", "/etc/other.json is without"},
		{"another stage", func(w *world) { w.edit("etc/other.json", "createRuntime", "poststart") }, "containerd.handlers", "/etc/other.json is without"},
		{"a spec that others can write to", func(w *world) { w.chmod("etc/other.json", 0o666) }, "containerd.handlers", "with mode 666"},
		{"a configuration that it has not read", func(w *world) { w.changeAfterStart("containerd.toml") }, "containerd.started", "/containerd.toml was last changed"},
		{"an import that it has not read", func(w *world) { w.changeAfterStart("conf.d/mine.toml") }, "containerd.started", "/conf.d/mine.toml was last changed"},
		{"a spec that it has not read", func(w *world) { w.changeAfterStart("etc/base.json") }, "containerd.started", "/etc/base.json was last changed"},
	})
}

func TestWhatIsWorthALookIsAWarning(t *testing.T) {
	eachIsTold(t, false, Warning, []one{
		{"a binary whose hooks nobody tried", say("/usr/bin/crun", "/usr/bin/runsc"), "containerd.binaries", `options.BinaryName is "/usr/bin/runsc"`},
		{"a shim of its own", say(`runtime_path = ""`, `runtime_path = "/opt/shim"`), "containerd.binaries", `runtime_path is "/opt/shim"`},
		{"known holes", func(w *world) { w.version = "v2.3.1" }, "containerd.holes", "CVE-2026-47262"},
	})
}

func TestAContainerdThatIsTooOldIsAskedForNoPlugin(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no criu
	w := newWorld(t, false)
	w.version = "2.1.9"
	w.say("    enable = true", "    enable = false")
	w.say("snapshotter.v1.zfs", "nri.v1.nri")
	w.say("enable_criu = false", "") // not a setting yet
	w.ping.NRI = "off"
	if report := w.look(); !report.OK || report.Count(Skipped) != 7 {
		t.Errorf("got open %q, skipped %q", states(report, Open), states(report, Skipped))
	}
	w.version = "2.0.9"
	if open := states(w.look(), Open); len(open) != 1 || open[0] != "containerd.version" {
		t.Errorf("got %q", open)
	}
}

func TestBesideAnOldContainerdCriuIsTold(t *testing.T) {
	for _, test := range []struct {
		version string
		told    bool
	}{{"2.3.9", true}, {"2.4.0", false}} {
		w := newWorld(t, false)
		w.version = test.version
		w.write("bin/criu", "#!/bin/sh\n", 0o755)
		t.Setenv("PATH", w.path("bin"))
		report := w.look()
		if open := states(report, Open); (len(open) == 1 && open[0] == "containerd.restore") != test.told || len(open) > 1 {
			t.Errorf("%s: got %q", test.version, open)
		}
	}
}

func TestTheLogCountsSinceTheLastStart(t *testing.T) {
	for log, fell := range map[string]bool{
		"": false,
		"starting containerd\n" + fallback + ".\nmore": true,
		fallback + "\nstarting containerd\nmore\n":     false,
		fallback: true,
		strings.Repeat("x", 100_000) + "\n" + fallback: true,
	} {
		if fellBack(strings.NewReader(log)) != fell {
			t.Errorf("%.60q: expected %v", log, fell)
		}
	}
}

func TestTheConfigurationIsTheOneOnTheCommandLine(t *testing.T) {
	for _, test := range []struct {
		argv []string
		want string
	}{
		{nil, ""}, {[]string{"containerd"}, ""}, {[]string{"containerd", "--log-level", "debug"}, ""},
		{[]string{"containerd", "--config", "/other.toml", ""}, "/other.toml"},
		{[]string{"containerd", "--config=/other.toml"}, "/other.toml"},
		{[]string{"containerd", "-c", "/other.toml"}, "/other.toml"},
		{[]string{"containerd", "--config"}, ""},
	} {
		if found := configIn(test.argv); found != test.want {
			t.Errorf("%q: got %q", test.argv, found)
		}
	}
}

func TestAContainerdItselfSaysWhatIsInEffect(t *testing.T) {
	w := newWorld(t, false)
	w.write("effective.toml", "[plugins.a]\nb = 3\n", 0o644)
	w.write("containerd", "#!/bin/sh\nhead -c 100000 /dev/zero | tr '\\0' w >&2\n[ \"$*\" = '--config /c.toml config dump' ] && cat "+w.path("effective.toml")+"\n", 0o755)
	found, err := dump(context.Background(), w.path("containerd"), "/c.toml")
	if err != nil || found.at("plugins", "a", "b") != int64(3) {
		t.Errorf("got %v, %v", found, err)
	}
	for script, says := range map[string]string{
		"echo no such file >&2; exit 1": "no such file",
		"echo '['":                      "toml",
		"cat /dev/zero":                 "config dump",
	} {
		w.write("containerd", "#!/bin/sh\n"+script+"\n", 0o755)
		if _, err := dump(context.Background(), w.path("containerd"), "/c.toml"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, expected %q", script, err, says)
		}
	}
}

func TestWhatCanNotBeAskedHidesNothingElse(t *testing.T) {
	w := newWorld(t, false)
	w.down = os.ErrClosed
	w.remove("bin/countersign-hook")
	report := w.look()
	if open := states(report, Open); strings.Join(open, " ") != "gate.hook containerd.answers" {
		t.Errorf("open: %q", open)
	}
	for _, check := range report.Checks {
		if strings.HasPrefix(check.Name, "containerd.") && check.Name != "containerd.answers" && check.Name != "containerd.log" && (check.State != Unknown || len(check.Findings) > 0 || check.Note == "") {
			t.Errorf("%s is %s: %q %q", check.Name, check.State, check.Note, check.Findings)
		}
	}
	w = newWorld(t, false)
	w.down = os.ErrPermission // not root
	if report = w.look(); report.OK || report.Count(Open) != 0 || report.Checks[len(gateChecks())].Findings[0].Mend != "run it as root" {
		t.Errorf("ok is %v, open: %q, %+v", report.OK, states(report, Open), report.Checks[len(gateChecks())])
	}
}

func TestAProcessTellsWhenItStarted(t *testing.T) {
	when, err := started(os.Getpid())
	if err != nil || when.After(time.Now()) || time.Since(when) > time.Hour {
		t.Errorf("got %s, %v", when, err)
	}
	if argv, err := arguments(os.Getpid()); err != nil || argv[0] != os.Args[0] {
		t.Errorf("got %q, %v", argv, err)
	}
}
