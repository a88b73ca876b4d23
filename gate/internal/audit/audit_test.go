package audit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/cri"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
)

// node is a runtime whose containers end when a test says so.
type node struct {
	running [][]string // answers, one after the other
	names   []string
	stopped []string
	err     error
}

func (n *node) Running(context.Context) ([]cri.Container, error) {
	var answer []string
	answer, n.running = n.running[0], n.running[1:]
	var running []cri.Container
	for _, id := range answer {
		running = append(running, cri.Container{ID: id, Name: "app\x1b[2J"})
	}
	return running, n.err
}

func (n *node) Sandboxes(context.Context) ([]cri.Container, error) { return nil, n.err }

func (n *node) Images(context.Context) ([]cri.Image, error) {
	return []cri.Image{{Names: n.names}}, n.err
}

func (n *node) Stop(_ context.Context, id string) error {
	n.stopped = append(n.stopped, id)
	return nil
}

// judge gives one code to all.
type judge struct {
	code   code.Code
	policy *policy.Policy
}

func (j judge) Audit(_ context.Context, id string) *verdict.Verdict {
	return &verdict.Verdict{Code: j.code, Allow: j.code.Allows(), Container: id, Image: "registry.example/app:v1"}
}

func (j judge) Sandbox(ctx context.Context, id string) *verdict.Verdict { return j.Audit(ctx, id) }

func (j judge) Cached(_ context.Context, name string) *verdict.Verdict {
	return &verdict.Verdict{Code: j.code, Allow: j.code.Allows(), Image: name}
}

func (j judge) Policy() *policy.Policy { return j.policy }

func judging(t *testing.T, c code.Code) judge {
	return judge{c, testsign.PolicyDoc{}.Parse(t)}
}

func TestWhatEndedMeanwhileIsLeftOut(t *testing.T) {
	for _, test := range []struct {
		name  string
		code  code.Code
		after []string
		want  []string
	}{
		{"refused, and one of them ended", code.Unsigned, []string{"b"}, []string{"b"}},
		{"refused, and both run on", code.Unsigned, []string{"a", "b"}, []string{"a", "b"}},
		{"allowed", code.OK, nil, []string{"a", "b"}},
	} {
		r, err := Run(t.Context(), &node{running: [][]string{{"a", "b"}, test.after}}, judging(t, test.code), false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range r.Containers {
			got = append(got, e.Container)
		}
		refused := len(test.want)
		if test.code.Allows() {
			refused = 0
		}
		if !slices.Equal(got, test.want) || r.Refused != refused {
			t.Errorf("%s: got %v, %d refused", test.name, got, r.Refused)
		}
	}
}

func TestOnlyAVerdictOnTheImageStopsAContainer(t *testing.T) {
	spared := []code.Code{code.NoEvidenceOffline, code.RegistryError, code.RegistryAuth, code.Timeout, code.GateDown, code.RuntimeUnreachable, code.PolicyInvalid}
	for _, c := range code.All {
		t.Run(string(c), func(t *testing.T) {
			n := &node{running: [][]string{{"a"}, {"a"}}}
			r, err := Run(t.Context(), n, judging(t, c), false)
			if err != nil {
				t.Fatal(err)
			}
			r.Stop(t.Context(), n)
			stops := !c.Allows() && !slices.Contains(spared, c)
			if (len(n.stopped) == 1) != stops {
				t.Errorf("stopped %v, %q", n.stopped, r.Containers[0].Stop)
			}
			if slices.Contains(spared, c) && !strings.Contains(r.Containers[0].Stop, string(c)) {
				t.Errorf("it says %q", r.Containers[0].Stop)
			}
		})
	}
}

func TestAListIsBounded(t *testing.T) {
	for _, beyond := range []int{0, 3} {
		r, err := Run(t.Context(), &node{running: [][]string{nil}, names: make([]string, maxEntries+beyond)}, judging(t, code.OK), true)
		if err != nil || len(r.Images) != maxEntries || r.NotJudged != beyond {
			t.Errorf("%d beyond: %d images, %d not judged, %v", beyond, len(r.Images), r.NotJudged, err)
		}
	}
}

func TestWhatTheRuntimeSaysIsSafeToShow(t *testing.T) {
	r, err := Run(t.Context(), &node{running: [][]string{{"a"}}}, judging(t, code.OK), false)
	if err != nil || r.Containers[0].Name != `app\u001b[2J` {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestARuntimeThatDoesNotAnswerIsAnError(t *testing.T) {
	down := errors.New("down")
	if r, err := Run(t.Context(), &node{running: [][]string{nil}, err: down}, judging(t, code.OK), false); !errors.Is(err, down) {
		t.Errorf("got %+v, %v", r, err)
	}
}
