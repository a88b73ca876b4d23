package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/config"
	"countersign/gate/internal/policy"
)

func TestACrioThatEnforcesPasses(t *testing.T) {
	report := newWorld(t, true).look()
	if !report.OK || report.Count(OK) != len(report.Checks)-1 || report.Runtime.Name != "crio" {
		t.Errorf("got open %q, unknown %q, warnings %q", states(report, Open), states(report, Unknown), states(report, Warning))
	}
}

func TestWhatSwitchesCrioOffIsTold(t *testing.T) {
	inNRI := "      nri_enable_default_validator = true\n"
	eachIsTold(t, true, Open, []one{
		{"no policy set", func(w *world) { w.say(w.path("etc/crio/policy.json"), "") }, "crio.signature_policy", "else starts are not checked"},
		{"another policy", func(w *world) { w.say("crio/policy.json", "crio/other.json") }, "crio.signature_policy", "crio/other.json"},
		{"no policy there", func(w *world) { w.remove("etc/crio/policy.json") }, "crio.signature_policy", "policy.json is missing"},
		{"a policy that accepts", func(w *world) { w.edit("etc/crio/policy.json", "reject", "insecureAcceptAnything") }, "crio.signature_policy", "does not reject by default"},
		{"a policy that is not JSON", func(w *world) { w.write("etc/crio/policy.json", "{", 0o644) }, "crio.signature_policy", "does not reject by default"},
		{"a policy that others can write to", func(w *world) { w.chmod("etc/crio/policy.json", 0o646) }, "crio.signature_policy", "with mode 646"},
		{"another folder of namespaces", func(w *world) { w.say("crio/namespaces", "crio/other") }, "crio.signature_policy_dir", "crio/other"},
		{"a namespace with a policy of its own", func(w *world) { w.write("etc/crio/namespaces/mine.json", "{}", 0o644) }, "crio.signature_policy_dir", "a policy for one namespace"},
		{"one in a folder of it", func(w *world) { w.write("etc/crio/namespaces/a/mine.json", "{}", 0o644) }, "crio.signature_policy_dir", "a policy for one namespace"},
		{"a folder that is a link", func(w *world) {
			w.write("else/mine.json", "{}", 0o644)
			w.remove("etc/crio/namespaces")
			w.link("else", "etc/crio/namespaces")
		}, "crio.signature_policy_dir", "a policy for one namespace"},
		{"no folder of namespaces", func(w *world) { w.remove("etc/crio/namespaces") }, "crio.signature_policy_dir", "namespaces is missing"},
		{"namespaces that others can write to", func(w *world) { w.chmod("etc/crio/namespaces", 0o777) }, "crio.signature_policy_dir", "with mode 777"},
		{"our hooks not read", func(w *world) { w.say("etc/crio/hooks.d", "etc/crio/others.d") }, "crio.hooks_dir", "hooks_dir is ["},
		{"no hook", func(w *world) { w.remove("etc/crio/hooks.d/countersign.json") }, "crio.hooks_dir", "countersign.json is missing"},
		{"another gate", func(w *world) { w.edit("etc/crio/hooks.d/countersign.json", "gate.sock", "none.sock") }, "crio.hooks_dir", "not the hook that set-up wrote"},
		{"a hook for some", func(w *world) { w.edit("etc/crio/hooks.d/countersign.json", `"always": true`, `"commands": ["sh"]`) }, "crio.hooks_dir", "not the hook that set-up wrote"},
		{"a hook for none", func(w *world) { w.edit("etc/crio/hooks.d/countersign.json", "true", "false") }, "crio.hooks_dir", "not the hook that set-up wrote"},
		{"a hook for some more", func(w *world) {
			w.edit("etc/crio/hooks.d/countersign.json", `"always": true`, `"always": true, "hasBindMounts": true`)
		}, "crio.hooks_dir", "not the hook that set-up wrote"},
		{"a hook with something behind it", func(w *world) {
			w.edit("etc/crio/hooks.d/countersign.json", `"createRuntime"]}`, `"createRuntime"]} x`)
		}, "crio.hooks_dir", "not the hook that set-up wrote"},
		{"another stage", func(w *world) { w.edit("etc/crio/hooks.d/countersign.json", "createRuntime", "poststop") }, "crio.hooks_dir", "not the hook that set-up wrote"},
		{"an older version", func(w *world) { w.edit("etc/crio/hooks.d/countersign.json", "1.0.0", "0.1.0") }, "crio.hooks_dir", "not the hook that set-up wrote"},
		{"a hook that takes its place", func(w *world) {
			w.say(`"]`+"\n    enable_criu", `", "`+w.path("later.d")+`"]`+"\n    enable_criu")
			w.write("later.d/countersign.json", "{}", 0o644)
		}, "crio.hooks_dir", "read in place of our hook"},
		{"a hook's file that others can write to", func(w *world) { w.chmod("etc/crio/hooks.d/countersign.json", 0o666) }, "crio.hooks_dir", "with mode 666"},
		{"pause by tag", say("pause@"+pause, "pause:3.10"), "crio.pause_image", "expected an image by digest"},
		{"pause that is not pinned", say("pause@"+pause, "pause@sha256:"+strings.Repeat("0", 64)), "crio.pause_image", "does not pin"},
		{"checkpoints", say("enable_criu_support = false", "enable_criu_support = true"), "crio.restore", "enable_criu_support is true"},
		{"checkpoints by default", say("enable_criu_support = false", ""), "crio.restore", "enable_criu_support is true"},
		{"checkpoints by the newer table", say("  [crio.image]", "  [crio.checkpoint_restore]\n    pod_enabled = \"checkpoint_restore\"\n  [crio.image]"), "crio.restore", "crio.checkpoint_restore.pod_enabled is"},
		{"no NRI", say("enable_nri = true", "enable_nri = false"), "crio.nri", "crio.nri.enable_nri is false, expected true"},
		{"no plugins from outside", say("connections = false", "connections = true"), "crio.nri", "nri_disable_connections is true"},
		{"no validator", say(inNRI, ""), "crio.nri", "nri_enable_default_validator is absent, expected true"},
		{"a validator that is off", say(inNRI, strings.Replace(inNRI, "true", "false", 1)), "crio.nri", "nri_enable_default_validator is false, expected true"},
		{"the gate not required", say(`["countersign"]`, `["another"]`), "crio.nri", `required_plugins is ["another"]`},
		{"a waiver", say(`annotation = ""`, `annotation = "waive.me"`), "crio.nri", `annotation is "waive.me"`},
		{"our hook refused", say("adjustment = false", "adjustment = true"), "crio.nri", "reject_oci_hook_adjustment is true"},
		{"a handler without hooks", say(`"oci"`, `"vm"`), "crio.handlers", `handler crun: runtime_type is "vm"`},
	})
}

// withEngine has the gate's own way bring policies to CRI-O's engine.
func withEngine(w *world) {
	w.gateJSON(fmt.Sprintf(`"hook": %q, "engine": {"policy": %q, "registriesD": %q}`, w.path("bin/countersign-hook"), w.path("etc/crio/policy.json"), w.path("registries.d/countersign.yaml")))
	w.folder("registries.d")
	settings, err := config.Load(w.path("etc/gate.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := settings.PolicyFile().Read()
	if err == nil {
		_, err = settings.PolicyFile().Engine.Put(p)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestAnEngineWithAnotherPolicyThanTheGateIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		open   bool
	}{
		"the gate's policy":      {func(*world) {}, false},
		"another":                {func(w *world) { w.edit("etc/crio/policy.json", "insecureAcceptAnything", "reject") }, true},
		"no place of signatures": {func(w *world) { w.remove("registries.d/countersign.yaml") }, true},
		"the gate has another":   {func(w *world) { w.edit("etc/policy.json", `"scopes": {}`, `"scopes": {"r.example": {"reject": true}}`) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, true)
			withEngine(w)
			c.change(w)
			p, err := policy.Load(w.path("etc/policy.json"))
			if err != nil {
				t.Fatal(err)
			}
			w.ping.Policy = p.Hash
			open := strings.Join(states(w.look(), Open), " ")
			if open != map[bool]string{true: "crio.signature_policy"}[c.open] {
				t.Errorf("open: %q", open)
			}
		})
	}
}

func TestAnAdditionalImageStoreIsAWarning(t *testing.T) {
	eachIsTold(t, true, Warning, []one{
		{"a store of others", say("overlay.mountopt=nodev", "overlay.imagestore=/mnt/images"), "crio.additional_image_stores", "overlay.imagestore=/mnt/images"},
	})
}

func TestWhatRestoresNothingIsNotTold(t *testing.T) {
	for _, settings := range []string{
		"pod_enabled = \"none\"", "pod_enabled = \"checkpoint_only\"", "pod_enabled = false", "other = true",
	} {
		w := newWorld(t, true)
		w.say("    enable_criu_support = false\n", "")
		w.say("  [crio.image]", "  [crio.checkpoint_restore]\n    "+settings+"\n  [crio.image]")
		if report := w.look(); !report.OK {
			t.Errorf("%s: open: %q", settings, states(report, Open))
		}
	}
	w := newWorld(t, true) // an older CRI-O does not have it
	w.say("      nri_validator_reject_oci_hook_adjustment = false\n", "")
	if report := w.look(); !report.OK {
		t.Errorf("open: %q", states(report, Open))
	}
}

func TestACrioThatDoesNotAnswerHidesNothingElse(t *testing.T) {
	w := newWorld(t, true)
	w.down = os.ErrClosed
	w.ping.NRI = "disconnected"
	report := w.look()
	if open := strings.Join(states(report, Open), " "); open != "gate.plugin crio.answers" || report.Count(Unknown) != 8 {
		t.Errorf("open: %q, unknown: %q", open, states(report, Unknown))
	}
}

func TestARunningCrioIsAskedForItsConfiguration(t *testing.T) {
	w := newWorld(t, true)
	socket := filepath.Join(t.TempDir(), "crio.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	answer, status := w.dump, http.StatusOK
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/config" {
			status = http.StatusNotFound
		}
		out.WriteHeader(status)
		_, _ = fmt.Fprint(out, answer)
	})}
	go func() { _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	found, err := crioConfig(context.Background(), socket)
	if err != nil || found.at("image", "signature_policy") != w.path("etc/crio/policy.json") {
		t.Errorf("got %v, %v", found, err)
	}
	if pid, err := listenerOf(socket); err != nil || pid != os.Getpid() {
		t.Errorf("got %d, %v", pid, err)
	}
	for _, bad := range []string{"[", "", "[crio]\n"} {
		answer = bad
		if found, err := crioConfig(context.Background(), socket); err == nil {
			t.Errorf("%q: got %v", bad, found)
		}
	}
	answer, status = w.dump, http.StatusInternalServerError
	if found, err := crioConfig(context.Background(), socket); err == nil {
		t.Errorf("status 500: got %v", found)
	}
}
