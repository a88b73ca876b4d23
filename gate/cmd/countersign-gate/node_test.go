package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/audit"
	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
)

func TestInstallSaysWhatItLacks(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no policy":        {nil, "--policy is missing"},
		"half a provider":  {[]string{"--policy", policy, "--credential-provider-config", "/etc/x"}, "go together"},
		"no such file":     {[]string{"--policy", policy + ".not"}, "no such file"},
		"a key that is no": {[]string{"--policy", policy, "--policy-key", policy + ".not"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			exit := dispatch(append([]string{"install"}, c.args...), &stdout, &stderr)
			if exit != exitUsage || !strings.Contains(stderr.String(), c.says) || stdout.Len() > 0 {
				t.Errorf("exit %d, %q, %q", exit, stdout.String(), stderr.String())
			}
		})
	}
}

// A policy that no gate takes is refused before anything of the node is looked at.
func TestInstallRefusesAPolicyThatIsNone(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: countersign/v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	exit := dispatch([]string{"install", "--policy", policy, "--plan", "--containerd-socket", "/nonexistent"}, &stdout, &stderr)
	if exit != exitRefused || !strings.Contains(stderr.String(), "POLICY_INVALID: "+policy) || stdout.Len() > 0 {
		t.Errorf("exit %d, %q, %q", exit, stdout.String(), stderr.String())
	}
}

func TestWhatWouldBeRefusedIsNamedWithItsRemedy(t *testing.T) {
	line := wouldRefuse(audit.Entry{Namespace: "shop", Pod: "web-1", Image: "a.example/web:1", Message: "countersign: refused", Remedy: "pinned: [a.example/web@sha256:x]"})
	for _, part := range []string{"shop/web-1", "a.example/web:1", "countersign: refused", "allowed by: pinned: [a.example/web@sha256:x]"} {
		if !strings.Contains(line, part) {
			t.Errorf("%q lacks %q", line, part)
		}
	}
}

func TestWhatAHostIsBroughtLiesBelowItsRoot(t *testing.T) {
	host, from := t.TempDir(), t.TempDir()
	folder := filepath.Join(host, "run", "countersign-install-1")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(from, "given.json")
	for path, content := range map[string]string{policy: "P", policy + ".sig": "S", filepath.Join(from, "logins"): "L"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := ofNode{host: host, programs: from, policy: policy, dockerConfig: filepath.Join(from, "logins"), socket: "/s", crioSocket: "/c", crioEngine: engineLenient, runtime: onCrio, plan: true}
	if _, err := o.bring(folder); err == nil {
		t.Error("expected an error: there are no programs")
	}
	for _, name := range []string{gateProgram, hookProgram} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	arguments, err := o.bring(folder)
	if err != nil {
		t.Fatal(err)
	}
	wanted := "--policy /run/countersign-install-1/policy.json --docker-config /run/countersign-install-1/docker.json --plan --runtime crio --containerd-socket /s --crio-socket /c --crio-engine lenient"
	if got := strings.Join(arguments, " "); got != wanted {
		t.Errorf("got %s, expected %s", got, wanted)
	}
	for name, content := range map[string]string{"policy.json": "P", "policy.json.sig": "S", "docker.json": "L", gateProgram: gateProgram} {
		if got, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(got) != content {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

func TestNodeFilesAreGivenAsTheyAre(t *testing.T) {
	place, err := os.ReadFile("../../internal/install/testdata/containerd.json")
	if err != nil {
		t.Fatal(err)
	}
	odd := "/p/\u200d\u202e\x7f😀/etc" // what a terminal must not see
	var out, said bytes.Buffer
	fromStdin(t, bytes.ReplaceAll(place, []byte("/p/etc"), []byte(odd)))
	exit := dispatch([]string{"node-files"}, &out, &said)
	var found struct{ Files map[string]string }
	if err := json.Unmarshal(out.Bytes(), &found); exit != exitOK || err != nil {
		t.Fatalf("got %d, %v: %s", exit, err, said.String())
	}
	if gate := found.Files[odd+"/gate.json"]; !strings.Contains(gate, odd+"/policy.json") || len(found.Files) != 2 {
		t.Errorf("got %s", out.String())
	}
	for name, c := range map[string]struct{ in, says string }{
		"nothing":         {"", "EOF"},
		"no JSON":         {"{", "unexpected EOF"},
		"another version": {`{"version":"x"}`, `version "x", expected "countersign.place/v1"`},
	} {
		said.Reset()
		fromStdin(t, []byte(c.in))
		if exit := dispatch([]string{"node-files"}, io.Discard, &said); exit != exitUsage || !strings.Contains(said.String(), c.says) {
			t.Errorf("%s: got %d %s", name, exit, said.String())
		}
	}
}

func fromStdin(t *testing.T, content []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = file
	t.Cleanup(func() { os.Stdin = before; _ = file.Close() })
}

func TestTheRuntimeIsTheOneThatAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		containerd, crio bool
		given, wanted    string
	}{
		"containerd":               {containerd: true, wanted: onContainerd},
		"CRI-O":                    {crio: true, wanted: onCrio},
		"neither":                  {wanted: onContainerd}, // which then says that it does not answer
		"both":                     {containerd: true, crio: true},
		"both, and one is named":   {containerd: true, crio: true, given: onCrio, wanted: onCrio},
		"both, and other is named": {containerd: true, crio: true, given: onContainerd, wanted: onContainerd},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "run"), 0o755); err != nil {
				t.Fatal(err)
			}
			for socket, there := range map[string]bool{"run/c.sock": c.containerd, "run/o.sock": c.crio} {
				if !there {
					continue
				}
				listener, err := net.Listen("unix", filepath.Join(root, socket))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = listener.Close() })
			}
			o := ofNode{socket: "/run/c.sock", crioSocket: "/var/run/o.sock", runtime: c.given}
			got, socket, err := o.find(root)
			if (err != nil) != (c.wanted == "") || got != c.wanted {
				t.Fatalf("got %q, %v; expected %q", got, err, c.wanted)
			}
			if got == onCrio && socket != filepath.Join(root, "run/o.sock") {
				t.Errorf("CRI-O is asked at %s", socket)
			}
		})
	}
}

func TestARuntimeIsNamedByItsName(t *testing.T) {
	for _, c := range []struct {
		o    ofNode
		good bool
	}{
		{ofNode{crioEngine: engineStrict}, true},
		{ofNode{runtime: onCrio, crioEngine: engineLenient}, true},
		{ofNode{runtime: "cri-o", crioEngine: engineStrict}, false},
		{ofNode{crioEngine: "off"}, false},
		{ofNode{}, false},
	} {
		if err := c.o.checkRuntime(); (err == nil) != c.good {
			t.Errorf("%+v: got %v", c.o, err)
		}
	}
}

// What CRI-O pulled while nobody looked for signatures would not start again.
func TestWhatCrioPulledBeforeIsToldThoughTheGateAllowsIt(t *testing.T) {
	key := testsign.NewKey(t)
	document, err := json.Marshal(map[string]any{
		"version": policy.Version, "pinned": []string{},
		"roots":   map[string]any{"k": map[string]any{"publicKey": map[string]any{"keys": []string{key.PEM}}}},
		"scopes":  map[string]any{"r.example/signed": map[string]any{"anyOf": []string{"k"}}, "r.example/open": map[string]any{"accept": true}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		scope string
		code  code.Code
		data  string
		told  bool
	}{
		"before":                  {"r.example/signed", code.OK, "manifest", true},
		"with signatures":         {"r.example/signed", code.OK, "signature-00", false},
		"asked for no signatures": {"r.example/open", code.AcceptedByScope, "manifest", false},
		"pinned":                  {"", code.PinnedDigest, "manifest", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, content := range map[string]string{
				"overlay-containers/containers.json": `[{"id": "c0", "image": "i0", "layer": "l"}]`,
				"overlay-images/images.json":         `[{"id": "i0", "names": [], "layer": "l", "big-data-names": ["` + c.data + `"]}]`,
			} {
				path = filepath.Join(root, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			one := audit.Entry{Container: "c0", Allow: true, Code: c.code, Scope: c.scope, Image: "r.example/signed:1"}
			if err := pulledBefore(context.Background(), &config.Crio{Root: root, RunRoot: root}, p, &one); err != nil {
				t.Fatal(err)
			}
			if one.Allow == c.told || c.told && !strings.Contains(wouldRefuse(one), "crictl pull") {
				t.Errorf("got %+v", one)
			}
		})
	}
}
