package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

func TestFiftyParallelStartsCauseOneVerification(t *testing.T) {
	p := newPlace(t)
	p.start()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			v, err := wire.Call(context.Background(), p.settings.Socket, wire.Create, fakecontainerd.State(t, container, p.name))
			if err != nil || !v.Allow {
				t.Errorf("got %+v, %v", v, err)
			}
		})
	}
	group.Wait()
	if got := p.metric("countersign_verifications_total"); got != 1 {
		t.Errorf("%v verifications, expected 1", got)
	}
	if got := p.metric(`countersign_verdicts_total{code="OK",layer="create"}`); got != 50 {
		t.Errorf("%v verdicts, expected 50", got)
	}
}

func TestEvidenceOfAPullServesAStartWithoutNetworkAndAfterARestart(t *testing.T) {
	p := newPlace(t)
	stop := p.start()
	if exit, out := p.verifier(); exit != exitOK || !strings.HasPrefix(out, "countersign: allowed "+p.name+"@") {
		t.Fatalf("exit %d, %q", exit, out)
	}
	p.registry.off = true
	p.want(p.create(), code.OK)
	stop()
	p.start()
	v := p.create()
	p.want(v, code.OK)
	if v.Source != string(evidence.FromStore) {
		t.Errorf("from %q", v.Source)
	}
}

func TestNoEvidenceAndNoRegistry(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.registry.off = true
	p.want(p.create(), code.NoEvidenceOffline)
	if exit, out := p.verifier(); exit != exitRefused || !strings.Contains(out, ": NO_EVIDENCE_OFFLINE: ") {
		t.Errorf("exit %d, %q", exit, out)
	}
	p.registry.mu.Lock()
	p.registry.off = false
	p.registry.mu.Unlock()
	time.Sleep(1100 * time.Millisecond) // as long as a failed look-up is remembered
	p.want(p.create(), code.OK)
}

func TestReloadedPolicyCounts(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.want(p.create(), code.OK)
	p.policy(testsign.NewKey(t))
	eventually(t, func() bool { return p.create().Code == code.BadSignature })
	if err := os.WriteFile(filepath.Join(p.dir, "policy.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return p.metric("countersign_policy_valid") == 0 })
	p.want(p.create(), code.BadSignature)
	p.policy(p.key)
	eventually(t, func() bool { return p.create().Code == code.OK })
}

func TestInvalidPolicyAtStartRefusesEverything(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(filepath.Join(p.dir, "policy.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.want(p.create(), code.PolicyInvalid)
	p.policy(p.key)
	eventually(t, func() bool { return p.create().Code == code.OK })
}

func TestSecondGateIsRefused(t *testing.T) {
	p := newPlace(t)
	p.start()
	if err := run(context.Background(), p.settings, next("serve", p.config), enforcing); err == nil || !strings.Contains(err.Error(), "another gate") {
		t.Errorf("got %v", err)
	}
	p.want(p.create(), code.OK)
}

func TestVerdictsAreLogged(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.want(p.create(), code.OK)
	content, err := os.ReadFile(filepath.Join(p.dir, "verdicts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var v verdict.Verdict
	if err := json.Unmarshal(content, &v); err != nil || v.Layer != verdict.Create || v.Image != p.name || v.Manifest != p.image.Manifest {
		t.Errorf("got %+v, %v", v, err)
	}
}
