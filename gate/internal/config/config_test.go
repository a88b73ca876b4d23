package config

import (
	"strings"
	"testing"
	"time"
)

func TestParseFillsInDefaults(t *testing.T) {
	c, err := Parse([]byte(`{"policy": "/p.json", "timeouts": {"verdict": "4s"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Policy != "/p.json" || c.Timeouts.Verdict != Duration(4*time.Second) || c.Containerd.Namespace != "k8s.io" {
		t.Errorf("got %+v", c)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, document, says string }{
		{"an unknown field", `{"polcy": "/p"}`, "polcy"},
		{"a way to fail open", `{"failOpen": true}`, "failOpen"},
		{"a relative path", `{"policy": "p.json"}`, "policy"},
		{"metrics on every address", `{"metrics": "0.0.0.0:9000"}`, "loopback"},
		{"metrics on a name", `{"metrics": "localhost:9000"}`, "loopback"},
		{"a relative metrics socket", `{"metrics": "unix:m.sock"}`, "absolute"},
		{"no snapshotter", `{"containerd": {"snapshotters": []}}`, "snapshotters"},
		{"a verdict that outlasts the hook", `{"timeouts": {"verdict": "5s"}}`, "verdict"},
		{"a registry that outlasts the verdict", `{"timeouts": {"registry": "4.6s"}}`, "registry"},
		{"a number as duration", `{"timeouts": {"pull": 20}}`, "4.5s"},
		{"no time at all", `{"timeouts": {"pull": "0s"}}`, "pull"},
		{"two runtimes", `{"containerd": {"address": "/c.sock"}, "crio": {"root": "/r"}}`, "one of them"},
		{"two runtimes, one of them null", `{"containerd": null, "crio": {}}`, "one of them"},
		{"a relative storage", `{"crio": {"root": "storage"}}`, "crio.root"},
		{"an engine without its policy", `{"crio": {"engine": {"registriesD": "/r.yaml"}}}`, "crio.engine.policy"},
		{"an engine without a place of signatures", `{"crio": {"engine": {"policy": "/p.json", "registriesD": "r.yaml"}}}`, "crio.engine.registriesD"},
		{"no run root", `{"crio": {"runRoot": ""}}`, "crio.runRoot"},
		{"a relative socket of CRI-O", `{"crio": {"socket": "crio.sock"}}`, "crio.socket"},
		{"an audit that never ends", `{"audit": {"every": "1s"}}`, "audit.every"},
		{"an audit in the past", `{"audit": {"every": "-1h"}}`, "audit.every"},
		{"a relative NRI socket", `{"crio": {"nri": "nri.sock"}}`, "crio.nri"},
		{"a relative NRI socket of containerd", `{"containerd": {"nri": "nri.sock"}}`, "containerd.nri"},
		{"no hook of containerd", `{"containerd": {"hook": ""}}`, "containerd.hook"},
		{"an unknown field of crio", `{"crio": {"runroot2": "/r"}}`, "runroot2"},
		{"a log that is rotated with every verdict", `{"logRotation": {"maxBytes": 1000}}`, "logRotation"},
		{"a rotation that keeps nothing", `{"logRotation": {"keep": 0}}`, "logRotation"},
		{"a thousand logs", `{"logRotation": {"keep": 1000}}`, "logRotation"},
		{"a relative state folder", `{"state": "state"}`, "state"},
		{"no key of the policy among policyKeys", `{"policyKeys": []}`, "policyKeys"},
		{"a policy key that is none", `{"policyKeys": ["cosign.pub"]}`, "policyKeys.keys[0]"},
		{"credential providers without a folder", `{"registry": {"credentialProviders": {"config": "/c.yaml"}}}`, "registry.credentialProviders.binDir"},
		{"credential providers with a relative folder", `{"registry": {"credentialProviders": {"config": "/c.yaml", "binDir": "bin"}}}`, "registry.credentialProviders.binDir"},
		{"credential providers without a configuration", `{"registry": {"credentialProviders": {"binDir": "/bin"}}}`, "registry.credentialProviders.config"},
		{"two documents", `{} {}`, "more than one"},
		{"no JSON", `policy: /p`, "invalid"},
		{"nothing", "\n", "an empty file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]byte(test.document))
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, expected an error about %q", err, test.says)
			}
		})
	}
}

func TestAuditIsOffUnlessAsked(t *testing.T) {
	for document, want := range map[string]time.Duration{`{}`: 0, `{"audit": {"every": "0s"}}`: 0, `{"audit": {"every": "1m"}}`: time.Minute} {
		if c, err := Parse([]byte(document)); err != nil || c.Audit.Every != Duration(want) {
			t.Errorf("%s: got %+v, %v", document, c, err)
		}
	}
}

func TestParseTakesLoopbackMetrics(t *testing.T) {
	for _, address := range []string{"127.0.0.1:9000", "[::1]:9000", "unix:/run/m.sock", ""} {
		if _, err := Parse([]byte(`{"metrics": "` + address + `"}`)); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestCredentialProvidersAreNoneUnlessGiven(t *testing.T) {
	c, err := Parse([]byte(`{"registry": {"certsDir": "/c"}}`))
	if err != nil || c.Registry.CredentialProviders != nil {
		t.Errorf("got %+v, %v", c, err)
	}
	c, err = Parse([]byte(`{"registry": {"credentialProviders": {"config": "/c.yaml", "binDir": "/bin"}}}`))
	if err != nil || *c.Registry.CredentialProviders != (CredentialProviders{Config: "/c.yaml", BinDir: "/bin"}) {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestOneRuntimeIsContainerdUnlessCrioIsGiven(t *testing.T) {
	for document, crio := range map[string]bool{
		`{}`: false, `{"containerd": {"address": "/c.sock"}}`: false, `{"crio": null}`: false, `{"crio": {}}`: true, `{"crio": {"root": "/r", "nri": ""}}`: true,
	} {
		c, err := Parse([]byte(document))
		if err != nil || (c.Crio != nil) != crio {
			t.Errorf("%s: got %+v, %v", document, c, err)
		}
	}
	c, err := Parse([]byte(`{"containerd": {"nri": "/nri.sock"}}`))
	if err != nil || c.Containerd.NRI != "/nri.sock" || c.Containerd.Hook == "" {
		t.Errorf("got %+v, %v", c.Containerd, err)
	}
	c, err = Parse([]byte(`{"crio": {"root": "/r", "nri": ""}}`))
	if err != nil || c.Crio.Root != "/r" || c.Crio.NRI != "" || c.Crio.RunRoot != "/run/containers/storage" || c.Crio.Hook == "" {
		t.Errorf("got %+v, %v", c.Crio, err)
	}
}

func TestTheMarkLiesBesideTheEvidenceOrInTheStateFolder(t *testing.T) {
	for document, mark := range map[string]string{
		`{}`:                               "/var/lib/countersign/policy-mark.json",
		`{"evidence": {"dir": "/a/b/ev"}}`: "/a/b/policy-mark.json",
		`{"state": "/state"}`:              "/state/policy-mark.json",
	} {
		c, err := Parse([]byte(document))
		if err != nil || c.PolicyFile().Mark != mark {
			t.Errorf("%s: got %+v, %v", document, c, err)
		}
	}
}
