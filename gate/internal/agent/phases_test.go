package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/prove"
	"countersign/gate/internal/verdict"
)

// fresh is a node that nothing of ours is on, with a policy of the cluster.
func fresh(api *API, r Rollout) (*agent, *stub) {
	node := &stub{fresh: true}
	a := newAgent(api, node)
	a.Rollout, a.content = r, &Policy{Content: []byte("p")}
	return a, node
}

func TestANodeThatObservesRefusesNothingHasNoTaintAndReports(t *testing.T) {
	c, api := newCluster(t, taint{Key: Taint, Effect: "NoExecute"})
	a, node := fresh(api, Rollout{Observe: true})
	for range 3 {
		node.seen = append(node.seen, verdict.Verdict{Allow: false, Code: code.Unsigned, Image: "r/a:1", Pod: "ns/x"})
	}
	node.seen = append(node.seen, verdict.Verdict{Allow: true, Code: code.OK, Image: "r/b:1"}, verdict.Verdict{Allow: false, Code: code.NoScope, Image: "r/c:1"})
	looks(t, a)
	if c.status["phase"] != Observing || c.status["reason"] != "Asked" || len(c.taints) != 0 || c.label != "false" || len(node.installs) != 0 || node.proofs != 0 {
		t.Fatalf("%v, taints %v, label %q, installs %q", c.status, c.taints, c.label, node.installs)
	}
	seen := c.status["observed"].(map[string]any)
	first := seen["images"].([]any)[0].(map[string]any)
	if seen["judged"] != 5.0 || seen["refused"] != 4.0 || first["image"] != "r/a:1" || first["code"] != "UNSIGNED" || first["count"] != 3.0 {
		t.Errorf("got %v", seen)
	}
	a.Rollout.Observe = false
	looks(t, a)
	if c.status["phase"] != Enforcing || !slices.Equal(node.installs, []string{"p"}) || !slices.Equal(node.observes, []string{"p", ""}) || c.status["observed"] != nil {
		t.Errorf("twin: %v, installs %q, observes %q", c.status, node.installs, node.observes)
	}
}

func TestGoingBackToObserveTakesEnforcementOff(t *testing.T) {
	c, api := newCluster(t)
	a, node := fresh(api, Rollout{On: Labels{"enforce": "yes"}})
	c.labels = map[string]string{"enforce": "yes"}
	looks(t, a)
	if c.status["phase"] != Enforcing || node.removed != 0 {
		t.Fatalf("got %v", c.status)
	}
	c.labels = map[string]string{"enforce": "no"}
	looks(t, a)
	if c.status["phase"] != Observing || c.status["reason"] != "NotSelected" || node.removed != 1 || len(c.taints) != 0 {
		t.Errorf("got %v, removed %d times, %v", c.status, node.removed, c.taints)
	}
	node.fresh, node.stays = false, errors.New("containerd does not start")
	looks(t, a)
	if c.status["phase"] != NotEnforcing || c.status["reason"] != "NotRemoved" {
		t.Errorf("what can't be taken off: got %v", c.status)
	}
}

func TestNodesFollowTheirCanaries(t *testing.T) {
	enforces := State{Phase: Enforcing, Reason: "Proven"}
	for name, row := range map[string]struct {
		canaries map[string]*State
		soak     time.Duration
		phase    string
		reason   string
	}{
		"none":                      {nil, 0, Observing, "WaitingForCanaries"},
		"one that observes still":   {map[string]*State{"c1": {Phase: Observing}}, 0, Observing, "WaitingForCanaries"},
		"one of two does not yet":   {map[string]*State{"c1": &enforces, "c2": {}}, 0, Observing, "WaitingForCanaries"},
		"one that is not proven":    {map[string]*State{"c1": &enforces, "c2": {Phase: NotEnforcing, Reason: "ProofFailed"}}, 0, Halted, "CanaryNotEnforcing"},
		"one that complains":        {map[string]*State{"c1": {Phase: Enforcing, Halt: &Halt{Reason: "AllowedRefused", Message: "m"}}}, 0, Halted, "AllowedRefused"},
		"all enforce, not for long": {map[string]*State{"c1": &enforces}, time.Hour, Observing, "WaitingForCanaries"},
		"all enforce":               {map[string]*State{"c1": &enforces, "c2": &enforces}, 0, Enforcing, "Proven"},
	} {
		t.Run(name, func(t *testing.T) {
			joined := taint{Key: Taint, Effect: "NoExecute"}
			c, api := newCluster(t, joined)
			c.canaries = row.canaries
			a, node := fresh(api, Rollout{Canaries: Labels{"canary": "yes"}, Soak: row.soak})
			looks(t, a)
			if c.status["phase"] != row.phase || c.status["reason"] != row.reason {
				t.Fatalf("got %v", c.status)
			}
			if installed := len(node.installs) == 1; installed != (row.phase == Enforcing) {
				t.Errorf("installs %q", node.installs)
			}
			if waits := slices.Equal(c.taints, []taint{joined}); waits != (row.phase != Enforcing) {
				t.Errorf("a node that is to enforce keeps its taint until it does: %v", c.taints)
			}
		})
	}
}

func TestNoCanaryTakesEnforcementOffANode(t *testing.T) {
	c, api := newCluster(t)
	c.canaries = map[string]*State{"c1": {Phase: NotEnforcing, Reason: "ProofFailed"}}
	a, node := fresh(api, Rollout{Canaries: Labels{"canary": "yes"}})
	node.fresh = false
	looks(t, a)
	if c.status["phase"] != Enforcing || node.removed != 0 {
		t.Errorf("got %v, removed %d times", c.status, node.removed)
	}
}

func TestACanaryHaltsTheRolloutWhenWhatThePolicyAllowsIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		code   code.Code
		allows bool
		image  string
		canary bool
		reason string
	}{
		"allowed when asked anew":     {code.Unsigned, true, "r/a:1", true, "AllowedRefused"},
		"refused when asked anew":     {code.Unsigned, false, "r/a:1", true, ""},
		"no verdict":                  {code.RegistryError, false, "r/a:1", true, "NoVerdict"},
		"the canary image of a proof": {code.Unsigned, true, prove.Refused, true, ""},
		"on another node":             {code.Unsigned, true, "r/a:1", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, api := newCluster(t)
			a, node := fresh(api, Rollout{Canaries: Labels{"canary": "yes"}})
			node.fresh = false
			if row.canary {
				c.labels = map[string]string{"canary": "yes"}
			}
			node.allows = row.allows
			node.refused = []verdict.Verdict{{Layer: verdict.Create, Code: row.code, Image: row.image, Pod: "ns/x", Repository: "r/a", Manifest: "sha256:m"}}
			looks(t, a)
			halt, _ := c.status["halt"].(map[string]any)
			if got, _ := halt["reason"].(string); got != row.reason {
				t.Fatalf("got %v", halt)
			}
			if c.status["phase"] != Enforcing {
				t.Errorf("a canary that complains goes on enforcing: got %v", c.status["phase"])
			}
			if told := slices.Contains(c.events, "RolloutHalted"); told != (row.reason != "") {
				t.Errorf("events %q", c.events)
			}
			if row.reason != "" && !slices.Equal(node.askedAnew, []string{"r/a@sha256:m"}) {
				t.Errorf("asked anew: %q", node.askedAnew)
			}
			a.apply(context.Background(), Policy{Content: []byte("amended")})
			looks(t, a)
			if c.status["halt"] != nil {
				t.Errorf("a new policy begins anew: got %v", c.status["halt"])
			}
		})
	}
}

func TestANodeThatCannotBeInstalledIsLeftAsItWasWithItsTaints(t *testing.T) {
	c, api := newCluster(t)
	a, node := fresh(api, Rollout{})
	a.Every = time.Nanosecond
	node.left = errors.New("3 containers run here that could not start again")
	var ready []bool
	a.Ready = func(is bool) { ready = append(ready, is) }
	looks(t, a)
	if c.status["phase"] != NotEnforcing || c.status["reason"] != "NotInstalled" || !strings.Contains(fmt.Sprint(c.status["message"]), "3 containers") || len(c.taints) != 0 {
		t.Fatalf("got %v, taints %v", c.status, c.taints)
	}
	node.left = nil
	time.Sleep(time.Millisecond)
	looks(t, a)
	if c.status["phase"] != Enforcing || !slices.Equal(ready, []bool{false, true}) {
		t.Errorf("twin: got %v, ready %v", c.status, ready)
	}
}

func TestANodeThatCannotBeUpgradedGoesOnEnforcing(t *testing.T) {
	c, api := newCluster(t)
	a, node := fresh(api, Rollout{})
	node.fresh, node.left = false, errors.New("read-only file system; the node is as it is before")
	looks(t, a)
	if c.status["phase"] != Enforcing || c.status["reason"] != "NotUpgraded" || node.proofs != 1 || len(c.taints) != 0 {
		t.Errorf("got %v, %d proofs, taints %v", c.status, node.proofs, c.taints)
	}
}

func TestAnAPIServerThatIsAwayHasNothingInstalled(t *testing.T) {
	c, api := newCluster(t)
	a, node := fresh(api, Rollout{})
	c.down = true
	if err := a.look(context.Background()); err == nil || len(node.installs)+len(node.observes)+node.removed != 0 {
		t.Fatalf("%v: installs %q, observes %q, removed %d", err, node.installs, node.observes, node.removed)
	}
	c.down = false
	looks(t, a)
	if len(node.installs) != 1 {
		t.Errorf("twin: installs %q", node.installs)
	}
}

func TestAnAgentWithoutRightsChangesNothing(t *testing.T) {
	for _, forbidden := range []bool{true, false} {
		t.Run(fmt.Sprint(forbidden), func(t *testing.T) {
			c, api := newCluster(t)
			c.forbidden = forbidden
			a, node := fresh(api, Rollout{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			began := make(chan struct{})
			go func() { a.begin(ctx); close(began) }()
			for asked := 0; asked < 4; pause(ctx, time.Millisecond) {
				c.mu.Lock()
				asked = c.asked
				c.mu.Unlock()
				select {
				case <-began:
					asked = 4
				default:
				}
			}
			select {
			case <-began:
				if forbidden {
					t.Error("it begins")
				}
			default:
				if !forbidden {
					t.Error("twin: it does not begin")
				}
			}
			if len(node.installs)+len(node.observes) != 0 {
				t.Errorf("installs %q, observes %q", node.installs, node.observes)
			}
		})
	}
}

func TestLabelsAreReadAsWritten(t *testing.T) {
	for text, wanted := range map[string]string{"": "", "a=b": "a=b", "x/b=1,a=": "a=,x/b=1", "a": "error", "!a": "error", "a in (b)": "error", "=b": "error"} {
		var l Labels
		got := "error"
		if err := l.Set(text); err == nil {
			got = l.String()
		}
		if got != wanted {
			t.Errorf("%q: got %q, expected %q", text, got, wanted)
		}
	}
	if !(Labels{"a": ""}).of(map[string]string{"a": ""}) || (Labels{"a": ""}).of(nil) {
		t.Error("an empty value is one that a node has to have")
	}
}

func TestALogIsReadOnceAndAnewWhenItIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := tail{path: path}
	line := func(image string) string {
		return fmt.Sprintf(`{"version":%q,"image":%q}`+"\n", verdict.Version, image)
	}
	add := func(text string) {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = file.WriteString(text)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(images ...string) {
		t.Helper()
		found, err := l.next()
		got := []string{}
		for _, v := range found {
			got = append(got, v.Image)
		}
		if err != nil || !slices.Equal(got, images) {
			t.Errorf("got %q, %v; expected %q", got, err, images)
		}
	}
	expect([]string{}...)
	add(line("a") + "nonsense\n" + line("b") + line("c")[:9])
	expect("a", "b")
	add(line("c")[9:])
	expect("c")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(line("d"))
	expect("d")
	l = tail{path: path}
	l.end()
	add(line("e"))
	expect("e")
}
