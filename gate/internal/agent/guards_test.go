package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
)

// told is a node's gate whose doctor and proof are given.
type told struct {
	stub
	check   doctor.State
	receipt *prove.Receipt
	unmade  error
	proving func() // happens while one is made
}

func (n *told) Doctor(context.Context) (*doctor.Report, error) {
	return &doctor.Report{Checks: []doctor.Check{{Name: "containerd.log", State: n.check, Note: "not to be read"}}}, nil
}

func (n *told) Prove(context.Context) (*prove.Receipt, error) {
	n.proofs++
	if n.proving != nil {
		n.proving()
	}
	return n.receipt, n.unmade
}

func held() *prove.Receipt {
	return &prove.Receipt{Started: time.Now(), Proven: prove.Proven{Refuse: true}}
}

func TestTheTaintStaysWhileAnythingIsNotKnown(t *testing.T) {
	joined := taint{Key: Taint, Effect: "NoExecute"}
	for name, c := range map[string]struct {
		node   *told
		reason string
	}{
		"all is well":                  {&told{check: doctor.OK, receipt: held()}, "Proven"},
		"a warning":                    {&told{check: doctor.Warning, receipt: held()}, "Proven"},
		"something is open":            {&told{check: doctor.Open, receipt: held()}, "Open"},
		"something can't be looked at": {&told{check: doctor.Unknown, receipt: held()}, "Open"},
		"no proof is to be had":        {&told{check: doctor.OK, unmade: errors.New("no canary")}, "NotProven"},
		"the proof fails":              {&told{check: doctor.OK, receipt: &prove.Receipt{Problems: []prove.Problem{{Where: "start"}}}}, "ProofFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, api := newCluster(t, joined)

			a := newAgent(api, c.node)
			looks(t, a)
			enforcing := c.reason == "Proven"
			if cluster.status["reason"] != c.reason || (len(cluster.taints) == 0) != enforcing || cluster.label != fmt.Sprint(enforcing) {
				t.Errorf("got %v, taints %v, label %q", cluster.status, cluster.taints, cluster.label)
			}
		})
	}
}

func TestAProofIsMadeAgain(t *testing.T) {
	for name, c := range map[string]struct {
		after  func(*agent, *told)
		proofs int
	}{
		"not while nothing changes":     {func(*agent, *told) {}, 1},
		"when the last one is old":      {func(a *agent, _ *told) { a.receipt.Started = time.Now().Add(-2 * time.Hour) }, 2},
		"not for a policy that is none": {func(a *agent, _ *told) { a.bring(context.Background(), configMap{}) }, 1},
		"under a new policy":            {func(a *agent, _ *told) { a.bring(context.Background(), configMap{Data: map[string]string{key: "new"}}) }, 2},
		"under a policy that came in a proof": {func(a *agent, n *told) {
			a.due = true
			n.proving = func() { a.bring(context.Background(), configMap{Data: map[string]string{key: "new"}}); n.proving = nil }
			looks(t, a)
		}, 3},
		"after anything was open meanwhile": {func(a *agent, n *told) { n.check = doctor.Open; looks(t, a); n.check = doctor.OK }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			_, api := newCluster(t)
			node := &told{check: doctor.OK, receipt: held()}
			a := newAgent(api, node)
			a.content = &Policy{Content: []byte("old")}
			looks(t, a)
			c.after(a, node)
			looks(t, a)
			if node.proofs != c.proofs {
				t.Errorf("%d proofs, expected %d", node.proofs, c.proofs)
			}
		})
	}
}

// A proof that loses a race, or its time, is no loss of enforcement; a canary that starts is.
func TestWhatWasNotSeenIsLookedAtAgainBeforeTheTaintComes(t *testing.T) {
	failing := func(found string) *prove.Receipt {
		return &prove.Receipt{Problems: []prove.Problem{{Where: "start", Found: found}}}
	}
	for name, c := range map[string]struct {
		proving func(*told)
		tries   int    // until all is well
		proofs  int    // in the look
		reason  string // in the end
	}{
		"no proof, once":            {func(n *told) { n.unmade = errors.New("the address is in use") }, 2, 2, "Proven"},
		"no proof, for good":        {func(n *told) { n.unmade = errors.New("the address is in use") }, 99, 3, "NotProven"},
		"out of time, once":         {func(n *told) { n.receipt = failing("refused with: countersign: refused x: TIMEOUT: busy") }, 2, 2, "Proven"},
		"out of time, twice":        {func(n *told) { n.receipt = failing("could not be tried: no sandbox") }, 3, 3, "Proven"},
		"out of time, for good":     {func(n *told) { n.receipt = failing("could not be tried: no sandbox") }, 99, 3, "ProofFailed"},
		"the canary is let through": {func(n *told) { n.receipt = failing("allowed") }, 2, 1, "ProofFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, api := newCluster(t)
			node := &told{check: doctor.OK, receipt: held()}
			a := newAgent(api, node)
			looks(t, a)
			before := node.proofs
			node.proving = func() {
				node.unmade, node.receipt = nil, held()
				if node.proofs-before < c.tries {
					c.proving(node)
				}
			}
			a.due = true
			looks(t, a)
			if node.proofs-before != c.proofs || cluster.status["reason"] != c.reason || (len(cluster.taints) == 0) != (c.reason == "Proven") {
				t.Errorf("got %d proofs, %v, taints %v", node.proofs-before, cluster.status, cluster.taints)
			}
		})
	}
}

// A machine that leaves and joins again has a Node that nobody asked to retire, and that has
// a taint until it is proven.
func TestANodeThatJoinsAnewEnforcesAnew(t *testing.T) {
	for name, rejoins := range map[string]bool{"another Node": true, "the same Node": false} {
		t.Run(name, func(t *testing.T) {
			cluster, api := newCluster(t)
			node := &stub{}
			a := newAgent(api, node)
			a.content = &Policy{Content: []byte("p")}
			a.takeUp(t.Context(), own{Spec: struct {
				Retire bool `json:"retire"`
			}{true}})
			looks(t, a)
			if cluster.status["phase"] != Removed {
				t.Fatalf("got %v", cluster.status)
			}
			cluster.taints, cluster.status = []taint{{Key: Taint, Effect: "NoExecute"}}, nil
			if rejoins {
				cluster.uid = "u2"
			}
			node.open = true
			looks(t, a)
			if rejoins != (len(cluster.taints) == 1) || rejoins != (cluster.status["phase"] == NotEnforcing) {
				t.Fatalf("not proven: %v, taints %v", cluster.status, cluster.taints)
			}
			node.open = false
			looks(t, a)
			if len(cluster.taints) != 0 || rejoins != (cluster.status["phase"] == Enforcing) || rejoins != (len(node.installs) == 1) {
				t.Errorf("got %v, taints %v, installs %q", cluster.status, cluster.taints, node.installs)
			}
		})
	}
}

func TestATaintOfANodeThatJoinedMeanwhileStays(t *testing.T) {
	for name, uid := range map[string]string{"another Node": "u2", "the same Node": "u1"} {
		t.Run(name, func(t *testing.T) {
			cluster, api := newCluster(t, taint{Key: Taint, Effect: "NoExecute"})
			cluster.patching = func() { cluster.uid = uid }
			err := newAgent(api, &stub{}).look(t.Context())
			if joined := uid != "u1"; joined != (err != nil) || joined != (len(cluster.taints) == 1) {
				t.Errorf("got %v, taints %v", err, cluster.taints)
			}
		})
	}
}

func TestANodeWhoseClockDiffersSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		server time.Duration // ahead of the node
		says   string
	}{
		"none":    {0, ""},
		"seconds": {30 * time.Second, ""},
		"behind":  {2 * time.Hour, "2h0m0s behind the API server's"},
		"ahead":   {-10 * time.Minute, "10m0s ahead of the API server's"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, api := newCluster(t)
			cluster.date = time.Now().Add(c.server)
			a := newAgent(api, &stub{})
			looks(t, a)
			looks(t, a)
			message, _ := cluster.status["message"].(string)
			if !strings.Contains(message, c.says) || (message == "") != (c.says == "") || cluster.status["phase"] != Enforcing {
				t.Errorf("got %v", cluster.status)
			}
			if told := strings.Count(fmt.Sprint(cluster.events), "ClockSkew"); (told == 1) != (c.says != "") || told > 1 {
				t.Errorf("events %q", cluster.events)
			}
		})
	}
}

func TestACRDOfNodesOfAnotherVersionIsToldOnce(t *testing.T) {
	cluster, api := newCluster(t)
	cluster.noKind = true
	node := &stub{}
	a := newAgent(api, node)
	for range 2 {
		if err := a.look(t.Context()); !is(err, http.StatusNotFound) {
			t.Fatalf("got %v", err)
		}
	}
	if fmt.Sprint(cluster.events) != "[StatusNotWritten]" || node.removed != 0 || len(cluster.taints) != 0 {
		t.Errorf("events %q, removed %d, taints %v", cluster.events, node.removed, cluster.taints)
	}
	cluster.noKind = false
	looks(t, a)
	if fmt.Sprint(cluster.events) != "[StatusNotWritten EnforcementProven]" {
		t.Errorf("twin: events %q", cluster.events)
	}
}

func TestANodeThatRetiresTakesNoPolicy(t *testing.T) {
	for _, retires := range []bool{true, false} {
		t.Run(fmt.Sprint(retires), func(t *testing.T) {
			_, api := newCluster(t)
			node := &stub{}
			a := newAgent(api, node)
			a.retire = retires
			a.bring(context.Background(), configMap{Data: map[string]string{key: "p"}})
			if (len(node.policies) == 0) != retires {
				t.Errorf("brought %q", node.policies)
			}
		})
	}
}

// What others wrote meanwhile is not overwritten: a patch is of the version that was read.
func TestOthersTaintsStay(t *testing.T) {
	c, api := newCluster(t, taint{Key: Taint, Effect: "NoSchedule"}, taint{Key: "theirs", Effect: "NoExecute"})
	looks(t, newAgent(api, &stub{}))
	if len(c.taints) != 1 || c.taints[0].Key != "theirs" {
		t.Errorf("got %v", c.taints)
	}
}

func TestAnAnswerOfTheAPIServerIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		bytes int
		says  string
	}{"within": {1000, ""}, "beyond": {maxObject, "over"}} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, "{%q:%q}", "x", strings.Repeat("x", c.bytes))
			}))
			defer server.Close()
			api := &API{URL: server.URL, Token: func() (string, error) { return "", nil }, HTTP: server.Client()}
			var into map[string]any
			err := api.get(context.Background(), "/", &into)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMain is the gate below a node's root, where that is how it is called: it answers
// with what lies in the root, unless others could read the signatures.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "observe" {
		observes(os.Args[3])
	}
	if len(os.Args) < 2 || os.Args[1] != "install-policy" {
		os.Exit(m.Run())
	}
	if info, err := os.Stat(signatureFile); err == nil && info.Mode().Perm() != 0o600 {
		fmt.Println("others read the signatures")
		os.Exit(1)
	}
	answer, err := os.ReadFile("/answer")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(answer))
}

// gateAnswering makes the root of a node.
func gateAnswering(t *testing.T, answer string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(gate), filepath.Dir(signatureFile)} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(root, gate), content, 0o755), os.WriteFile(filepath.Join(root, "answer"), []byte(answer), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestAPolicyThatIsNotInForceIsToldToBeSo(t *testing.T) {
	for name, c := range map[string]struct{ answer, says string }{
		"in force":     {`{"inForce":true}`, ""},
		"not in force": {`{"inForce":false}`, "does not decide by it"},
		"no word":      {`{}`, "does not decide by it"},
		"no document":  {`no`, "no JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Below(gateAnswering(t, c.answer)).InstallPolicy(context.Background(), Policy{Content: []byte("{}")})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected %q", err, c.says)
			}
		})
	}
}

func TestSignaturesOfAPolicyAreTheOwnersAlone(t *testing.T) {
	root := gateAnswering(t, `{"inForce":true}`)
	if err := Below(root).InstallPolicy(context.Background(), Policy{Content: []byte("{}"), Signatures: []byte("signature")}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(root, signatureFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the signatures were left: %v", err)
	}
}
