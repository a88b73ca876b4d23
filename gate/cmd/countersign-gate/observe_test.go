package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/daemon"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// observe runs a gate that observes, as soon as containerd tells it of events.
func (p *place) observe() {
	p.t.Helper()
	p.running(observing)
	p.until("a subscriber", func() bool { return p.node.Subscribers() == 1 })
}

func (p *place) until(what string, is func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// told waits for the verdict on a container.
func (p *place) told(id string) (found verdict.Verdict) {
	p.t.Helper()
	p.until("a verdict on "+id, func() bool {
		for _, v := range p.logged() {
			if v.Container == id {
				found = v
				return true
			}
		}
		return false
	})
	return found
}

// another adds a container whose image nobody signed.
func (p *place) another(id string) {
	name := strings.Replace(p.name, ":v1", ":unsigned", 1)
	image := p.node.Image(p.t, "other", "unsigned")
	p.node.Images[name] = image.Target()
	p.node.Create(p.t, fakecontainerd.Container{ID: id, Name: name, Image: image})
}

func TestAnObserverJudgesWhatStartsAndLetsItRun(t *testing.T) {
	p := newPlace(t)
	p.another("badc0de0")
	p.node.Ended["badc0de0"] = true // and so it is told of by its start alone
	p.node.Sandbox("registry.example/pause:v1", p.image)
	p.observe()
	if v := p.told(container); v.Code != code.OK || v.Layer != verdict.Audit {
		t.Errorf("what ran already: %+v", v)
	}
	for _, id := range []string{fakecontainerd.SandboxID, "badc0de0", "badc0de0", "9011e000"} { // the last is removed by then
		p.node.Started(t, id)
	}
	if v := p.told("badc0de0"); v.Code != code.Unsigned || v.Layer != verdict.Audit || v.Pod != "default/pod" {
		t.Errorf("unsigned: %+v", v)
	}
	if v := p.told("9011e000"); v.Code != code.Timeout || !strings.Contains(v.Message, "removed before it could be judged") {
		t.Errorf("removed at once: %+v", v)
	}
	if n := len(p.logged()); n != 3 {
		t.Errorf("%d verdicts, expected one each and none on the sandbox", n)
	}
	if p.node.Calls("StopContainer") > 0 {
		t.Error("an observer stopped something")
	}
}

func TestAnObserverFindsWhatStartedWhileNobodyTold(t *testing.T) {
	p := newPlace(t)
	p.another("badc0de0")
	p.node.Ended["badc0de0"] = true
	p.observe()
	p.told(container)
	p.node.Runs("badc0de0")
	p.node.Interrupt()
	p.told("badc0de0") // which no event names
}

func TestAnObserverSaysThatItEnforcesNothing(t *testing.T) {
	for _, test := range []struct {
		mode mode
		says string
		word string
		one  float64
	}{
		{observing, daemon.NotEnforcing, "observing", 1},
		{enforcing, "the gate serves", "", 0},
	} {
		p := newPlace(t)
		p.running(test.mode)
		v, err := wire.Call(context.Background(), p.settings.Socket, wire.Ping, nil)
		if err != nil || v.Mode != test.word || !strings.Contains(v.Message, test.says) {
			t.Errorf("got %+v, %v", v, err)
		}
		if got := p.metric("countersign_observing"); got != test.one {
			t.Errorf("countersign_observing is %v, expected %v", got, test.one)
		}
	}
}

func TestAnObserverAnswersNoHook(t *testing.T) {
	for _, test := range []struct {
		name string
		mode mode
		want code.Code
	}{{"observing", observing, code.GateDown}, {"enforcing", enforcing, code.OK}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			p.running(test.mode)
			p.want(p.create(), test.want)
			if exit, out := p.verifier(); (exit == exitOK) != test.want.Allows() || !strings.Contains(out, string(test.want)) {
				t.Errorf("pull: exit %d, %s", exit, out)
			}
		})
	}
}

func TestThereIsNoObserverWhereThereIsAHook(t *testing.T) {
	for _, test := range []struct {
		name, hook, says string
	}{
		{"none", "", ""},
		{"another's hook", "/usr/bin/nvidia-hook", ""},
		{"the hook", "/usr/local/bin/countersign-hook", "so it enforces"},
		{"the hook in another place", "/opt/countersign-hook", "so it enforces"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			if test.hook != "" {
				p.node.BaseSpec = p.write("base.json", map[string]any{"hooks": map[string]any{"createRuntime": []any{map[string]any{"path": test.hook, "args": []string{"x"}}}}})
			}
			if test.says == "" {
				p.observe()
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // for one that does observe
			defer cancel()
			err := run(ctx, p.settings, next("observe", p.config), observing)
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), p.node.BaseSpec) {
				t.Errorf("got %v", err)
			}
		})
	}
	p := newPlace(t)
	p.node.BaseSpec = filepath.Join(p.dir, "none.json") // which may have the hook
	exit, _, stderr := p.do("observe", "--config", p.config)
	if exit != exitInfrastructure || !strings.Contains(stderr, "not known whether this node has the hook") {
		t.Errorf("a base spec that cannot be read: exit %d, %s", exit, stderr)
	}
}

func TestTheDaemonAuditsWhatRuns(t *testing.T) {
	p := newPlace(t)
	p.another("badc0de0")
	p.settings.Audit.Every = 1 // gate.json allows no less than a minute
	p.running(enforcing)
	p.until("an audit", func() bool { return p.metric("countersign_audit_containers") == 2 })
	if got := p.metric(fmt.Sprintf("countersign_audit_refused{code=%q}", code.NoEvidenceOffline)); got != 2 {
		t.Errorf("%v refused without evidence, expected 2", got)
	}
	p.want(p.create(), code.OK) // what an audit without a registry found is not remembered for others
	p.until("the evidence to count", func() bool {
		return p.metric(fmt.Sprintf("countersign_audit_refused{code=%q}", code.NoEvidenceOffline)) == 1
	})
	p.policy(testsign.NewKey(t))
	p.until("the new policy to count", func() bool {
		return p.metric(fmt.Sprintf("countersign_audit_refused{code=%q}", code.BadSignature)) == 1
	})
	if p.node.Calls("StopContainer") > 0 {
		t.Error("the daemon stopped something")
	}
}
