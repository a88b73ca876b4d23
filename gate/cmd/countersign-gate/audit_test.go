package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/audit"
	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
)

// audited runs an audit and reads its document.
func (p *place) audited(exit int, args ...string) *audit.Report {
	p.t.Helper()
	got, out, stderr := p.do(append([]string{"audit", "--json", "--config", p.config}, args...)...)
	var r audit.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || got != exit || r.Version != audit.Version {
		p.t.Fatalf("%q: exit %d, expected %d: %s%s, %v", args, got, exit, out, stderr, err)
	}
	return &r
}

// only is the single container of a report.
func (p *place) only(r *audit.Report, want code.Code) audit.Entry {
	p.t.Helper()
	if len(r.Containers) != 1 {
		p.t.Fatalf("got %+v, expected one container", r.Containers)
	}
	e := r.Containers[0]
	if e.Code != want || e.Allow != want.Allows() || e.Container != container || e.Pod != fakecontainerd.PodName || e.Namespace != fakecontainerd.PodNamespace || e.Name != "app" {
		p.t.Fatalf("got %+v, expected %s", e, want)
	}
	return e
}

// learn has the node take up the evidence of its image, as a start does.
func (p *place) learn() {
	p.t.Helper()
	stop := p.start()
	p.want(p.create(), code.OK)
	stop()
}

// revoking is the place's policy with the image revoked.
func (p *place) revoking(digests ...string) {
	p.document(map[string]any{}, digests)
}

// document writes a policy with further scopes, and revoked digests.
func (p *place) document(scopes map[string]any, revoked []string, pinned ...string) string {
	repository, _, _ := strings.Cut(p.name, ":v1")
	all := map[string]any{repository: map[string]any{"anyOf": []string{"k"}}}
	for scope, rule := range scopes {
		all[scope] = rule
	}
	return p.write("policy.json", map[string]any{
		"version": "countersign.policy/v1", "pinned": append([]string{}, pinned...), "scopes": all,
		"roots":   map[string]any{"k": map[string]any{"publicKey": map[string]any{"keys": []string{p.key.PEM}}}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": append([]string{}, revoked...)},
	})
}

func TestAuditJudgesWhatRunsByTodaysPolicyFromEvidence(t *testing.T) {
	p := newPlace(t)
	p.learn()
	p.registry.off = true
	for _, test := range []struct {
		name   string
		policy func()
		exit   int
		want   code.Code
	}{
		{"as it started", func() { p.policy(p.key) }, exitOK, code.OK},
		{"the digest is revoked", func() { p.revoking(p.image.Manifest) }, exitRefused, code.Revoked},
		{"the key is another", func() { p.policy(testsign.NewKey(t)) }, exitRefused, code.BadSignature},
		{"as it started, again", func() { p.policy(p.key) }, exitOK, code.OK},
	} {
		test.policy()
		asked := p.registry.asked
		r := p.audited(test.exit)
		e := p.only(r, test.want)
		if e.Image != p.name || e.Digest != p.image.Manifest || r.Policy == "" || (r.Refused > 0) == test.want.Allows() {
			t.Errorf("%s: %+v", test.name, r)
		}
		if p.registry.asked != asked {
			t.Errorf("%s: a registry was asked", test.name)
		}
	}
}

func TestAuditWithoutEvidenceIsNoWordOnTheImage(t *testing.T) {
	p := newPlace(t)
	p.only(p.audited(exitRefused), code.NoEvidenceOffline)
	if p.registry.asked > 0 {
		t.Error("a registry was asked")
	}
	p.only(p.audited(exitOK, "--online"), code.OK)
	if p.registry.asked == 0 {
		t.Error("no registry was asked")
	}
}

func TestAuditStopsWhatIsRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		make  func(p *place)
		want  code.Code
		stops bool
		says  string
	}{
		{"revoked", func(p *place) { p.learn(); p.revoking(p.image.Manifest) }, code.Revoked, true, "stopped"},
		{"revoked and pinned", func(p *place) {
			p.document(nil, []string{p.image.Manifest}, "registry.example/system@"+p.image.Manifest)
		}, code.Revoked, false, "not stopped: the image is pinned"},
		{"no evidence", func(*place) {}, code.NoEvidenceOffline, false, "not stopped: NO_EVIDENCE_OFFLINE"},
		{"allowed", (*place).learn, code.OK, false, ""},
		{"it does not stop", func(p *place) { p.revoking(p.image.Manifest); p.node.Immortal[container] = true }, code.Revoked, false, "not stopped: stop: the runtime at"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			test.make(p)
			exit := exitRefused
			if test.want.Allows() {
				exit = exitOK
			}
			if p.only(p.audited(exit), test.want); p.node.Calls("StopContainer") > 0 {
				t.Fatal("stopped without being told to")
			}
			e := p.only(p.audited(exit, "--stop"), test.want)
			if p.node.Ended[container] != test.stops || !strings.HasPrefix(e.Stop, test.says) || (test.says == "") != (e.Stop == "") {
				t.Errorf("stopped: %v, %q", p.node.Ended[container], e.Stop)
			}
		})
	}
}

func TestAuditJudgesCachedImages(t *testing.T) {
	p := newPlace(t)
	p.learn()
	other := p.node.Image(t, "other layer", "other")
	p.node.Images["registry.example/other:v1"] = other.Target()
	p.node.Images["registry.example/other@"+other.Target()] = other.Target()
	if r := p.audited(exitOK); r.Images != nil {
		t.Errorf("got %+v, unasked", r.Images)
	}
	r := p.audited(exitOK, "--images") // what is merely cached is not a failure
	found := map[string]code.Code{}
	for _, e := range r.Images {
		found[e.Image] = e.Code
	}
	if len(found) != 3 || found[p.name] != code.OK || found["registry.example/other:v1"] != code.NoScope {
		t.Errorf("got %v", found)
	}
	lines := p.logged()
	for _, v := range lines[1:] { // the first is that of the start
		if v.Layer != verdict.Audit || v.Container == "" {
			t.Errorf("in the log: %+v", v)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines in the log, expected one a start and one an audit", len(lines))
	}
}

func TestAuditJudgesSandboxesAndStopsNone(t *testing.T) {
	const pause = "registry.example/system/pause:v1"
	for _, test := range []struct {
		name string
		make func(p *place, image fakecontainerd.Image)
		want code.Code
	}{
		{"pinned", func(p *place, image fakecontainerd.Image) {
			p.document(nil, nil, "registry.example/pause@"+image.Manifest)
		}, code.PinnedDigest},
		{"not pinned", func(*place, fakecontainerd.Image) {}, code.NoScope},
		{"the record leads to another image now", func(p *place, image fakecontainerd.Image) {
			p.document(nil, nil, "registry.example/pause@"+image.Manifest)
			p.node.Images[pause] = p.image.Target()
		}, code.NotWhatRuns},
		{"no record", func(p *place, _ fakecontainerd.Image) { delete(p.node.Images, pause) }, code.NoRecord},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			p.learn()
			image := p.node.Image(t, "pause layer", "pause")
			p.node.Images[pause] = image.Target()
			p.node.Sandbox(pause, image)
			test.make(p, image)
			exit := exitRefused
			if test.want.Allows() {
				exit = exitOK
			}
			r := p.audited(exit, "--stop")
			if len(r.Sandboxes) != 1 || r.Sandboxes[0].Code != test.want || r.Sandboxes[0].Pod != fakecontainerd.PodName || r.Sandboxes[0].Image != pause {
				t.Errorf("got %+v, expected %s", r.Sandboxes, test.want)
			}
			if p.only(r, code.OK); p.node.Calls("StopContainer") > 0 {
				t.Error("stopped")
			}
		})
	}
}

func TestTheLineOfPolicyAllowsTheImage(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy func(p *place)
		want   code.Code
		line   bool
	}{
		{"in no scope", func(p *place) { p.name = "registry.example/elsewhere:v1"; p.again() }, code.NoScope, true},
		{"rejected", func(p *place) {
			repository, _, _ := strings.Cut(p.name, ":v1")
			p.document(map[string]any{repository: map[string]any{"reject": true}}, nil)
		}, code.RejectedByScope, true},
		{"by another key", func(p *place) { p.learn(); p.policy(testsign.NewKey(t)) }, code.BadSignature, true},
		{"without evidence", func(*place) {}, code.NoEvidenceOffline, true},
		{"revoked", func(p *place) { p.revoking(p.image.Manifest) }, code.Revoked, false},
		{"bound to nothing", func(p *place) { delete(p.node.Images, p.name) }, code.NoRecord, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			test.policy(p)
			e := p.only(p.audited(exitRefused), test.want)
			if !test.line {
				if e.Remedy != "" {
					t.Errorf("got %q, and no line of policy allows it", e.Remedy)
				}
				return
			}
			pin := strings.TrimSuffix(strings.TrimPrefix(e.Remedy, "pinned: ["), "]")
			p.document(nil, nil, pin)
			p.only(p.audited(exitOK), code.PinnedDigest)
		})
	}
}

// again makes the container one that was written as the place's name is now.
func (p *place) again() {
	p.node.Images[p.name] = p.image.Target()
	p.node.Create(p.t, fakecontainerd.Container{ID: container, Name: p.name, Image: p.image})
}

func TestAuditByAPolicyThatIsNotInForce(t *testing.T) {
	p := newPlace(t)
	p.learn()
	before := len(p.logged())
	strict := filepath.Join(p.dir, "strict.json")
	p.policy(testsign.NewKey(t))
	if err := os.Rename(filepath.Join(p.dir, "policy.json"), strict); err != nil {
		t.Fatal(err)
	}
	p.policy(p.key)
	p.only(p.audited(exitRefused, "--policy", strict), code.BadSignature)
	p.only(p.audited(exitOK, "--policy", filepath.Join(p.dir, "policy.json")), code.OK)
	if after := len(p.logged()); after != before {
		t.Errorf("%d verdicts that were none are in the log", after-before)
	}
}

func TestAuditWhereNoGateIsInstalled(t *testing.T) {
	p := newPlace(t)
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv(config.Env, "/nonexistent.json")
	planned := p.policy(p.key)
	for _, test := range []struct {
		args []string
		exit int
		want code.Code
	}{
		{nil, exitRefused, code.NoEvidenceOffline},
		{[]string{"--online"}, exitOK, code.OK},
	} {
		args := append([]string{"audit", "--json", "--policy", planned, "--runtime", "containerd", "--socket", p.node.Address}, test.args...)
		exit, out, stderr := p.do(args...)
		var r audit.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || exit != test.exit {
			t.Fatalf("%q: exit %d, %s%s, %v", args, exit, out, stderr, err)
		}
		p.only(&r, test.want)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAuditUsage(t *testing.T) {
	p := newPlace(t)
	planned := p.policy(p.key)
	for _, test := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"--stop", "--policy", planned}, exitUsage, "--stop goes by the policy in force"},
		{[]string{"--runtime", "containerd"}, exitUsage, "--runtime needs --policy"},
		{[]string{"--runtime", "docker", "--policy", planned}, exitUsage, `--runtime "docker"`},
		{[]string{"--socket", p.node.Address}, exitUsage, "go with --runtime"},
		{[]string{"--config", "/nonexistent.json"}, exitUsage, "where no gate is installed, give --policy FILE and --runtime"},
		{[]string{"--config", p.config, "--policy", p.config}, exitUsage, "POLICY_INVALID"},
		{[]string{"--runtime", "containerd", "--policy", planned, "--socket", p.dir + "/none.sock"}, exitInfrastructure, "the runtime at " + p.dir + "/none.sock"},
		{[]string{"--runtime", "crio", "--policy", planned, "--socket", p.dir + "/none.sock"}, exitInfrastructure, "CRI-O at " + p.dir + "/none.sock"},
	} {
		exit, _, stderr := p.do(append([]string{"audit"}, test.args...)...)
		if exit != test.exit || !strings.Contains(stderr, test.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q", test.args, exit, stderr)
		}
	}
}

func TestTheTableSaysWhatIsRefusedAndWhatWouldAllowIt(t *testing.T) {
	p := newPlace(t)
	p.learn()
	exit, out, _ := p.do("audit", "--config", p.config)
	if exit != exitOK || !strings.Contains(out, "nothing that runs would be refused") || strings.Contains(out, "pinned") {
		t.Errorf("exit %d, %s", exit, out)
	}
	p.policy(testsign.NewKey(t))
	exit, out, _ = p.do("audit", "--images", "--config", p.config)
	for _, says := range []string{"1 of 1 running containers and sandboxes would be refused", "✗ BAD_SIGNATURE", "default/pod/app " + container, "would be allowed by: pinned: [", "cached images: 1"} {
		if exit != exitRefused || !strings.Contains(out, says) {
			t.Errorf("exit %d, no %q in %s", exit, says, out)
		}
	}
}

// logged are the verdicts in the gate's log.
func (p *place) logged() []verdict.Verdict {
	p.t.Helper()
	content, err := os.ReadFile(filepath.Join(p.dir, "verdicts.jsonl"))
	if err != nil {
		p.t.Fatal(err)
	}
	var all []verdict.Verdict
	for line := range strings.Lines(string(content)) {
		var v verdict.Verdict
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			p.t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}
