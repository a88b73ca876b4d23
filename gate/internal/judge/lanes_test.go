package judge_test

import (
	"context"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

// While what registries have answered is judged without an end, what is on the node is
// judged all the same; and what a registry alone has is refused in time.
func TestEvidenceOnTheNodeDoesNotWaitForWhatRegistriesAnswered(t *testing.T) {
	for name, test := range map[string]struct {
		onNode bool
		want   code.Code
	}{
		"on the node":            {true, code.OK},
		"at the registry, alone": {false, code.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			signature := testsign.Bundle(t, s.key, s.digest())
			if s.registry.sets[s.digest()] = setOf(s.manifest, signature); test.onNode {
				s.put(t, signature)
			}
			j := judge.New(evidence.Collector{Store: s.store, Registry: s.registry})
			defer j.HoldRegistryLane()()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if o := j.Judge(ctx, s.doc.Parse(t), s.request); o.Code != test.want || o.Allow != test.want.Allows() {
				t.Errorf("got %s: %v", o.Code, o.Refusal)
			}
		})
	}
}
