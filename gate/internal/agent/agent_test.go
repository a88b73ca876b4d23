package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
	"countersign/gate/internal/verdict"
)

// cluster is an API server with one node.
type cluster struct {
	t  *testing.T
	mu sync.Mutex

	taints    []taint
	label     string
	version   int
	conflicts int // so many patches of the node come too late
	down      bool
	status    map[string]any
	retire    bool
	owner     any
	events    []string
	policies  chan string // data of the ConfigMap, as JSON
	tokens    []string
	labels    map[string]string
	canaries  map[string]*State
	forbidden bool // the agent may not change its node
	asked     int
	reads     int       // of the node
	date      time.Time // of its answers; zero: now
	noKind    bool      // it knows no CountersignNode
	uid       string    // of the node; u1 where there is none
	patching  func()    // happens before the node is read for its taint
}

func newCluster(t *testing.T, taints ...taint) (*cluster, *API) {
	t.Helper()
	c := &cluster{t: t, taints: taints, policies: make(chan string)}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return c, &API{URL: server.URL, Token: func() (string, error) { return "secret", nil }, HTTP: server.Client()}
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch watched := r.URL.Query().Get("watch") != ""; {
	case watched && r.URL.Path == nodes:
		c.serveOwn(w, r)
		return
	case watched && r.URL.Path == policies:
		http.NotFound(w, r)
		return
	case watched:
		c.serveWatch(w, r)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens, c.asked = append(c.tokens, r.Header.Get("Authorization")), c.asked+1
	if !c.date.IsZero() {
		w.Header().Set("Date", c.date.UTC().Format(http.TimeFormat))
	}
	if c.down {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	var body map[string]any
	if content, err := io.ReadAll(r.Body); err == nil && len(content) > 0 {
		if err := json.Unmarshal(content, &body); err != nil {
			c.t.Error(err)
		}
	}
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes/n1":
		if c.reads++; c.patching != nil && c.reads == 2 {
			c.patching()
		}
		answer(c.t, w, map[string]any{"metadata": map[string]any{"uid": cmp.Or(c.uid, "u1"), "resourceVersion": fmt.Sprint(c.version), "labels": c.allLabels()}, "spec": map[string]any{"taints": c.taints}})
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes":
		items := []any{}
		for name := range c.canaries {
			items = append(items, map[string]any{"metadata": map[string]any{"name": name}})
		}
		answer(c.t, w, map[string]any{"items": items})
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, nodes+"/") && c.canaries[strings.TrimPrefix(r.URL.Path, nodes+"/")] != nil:
		answer(c.t, w, map[string]any{"status": c.canaries[strings.TrimPrefix(r.URL.Path, nodes+"/")]})
	case r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "All" && c.forbidden:
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "All":
		answer(c.t, w, map[string]any{})
	case r.Method == http.MethodPatch && r.URL.Path == "/api/v1/nodes/n1":
		c.patch(w, body)
	case r.Method == http.MethodGet && r.URL.Path == nodes:
		answer(c.t, w, map[string]any{"items": []any{map[string]any{"metadata": map[string]any{"name": "n1"}, "spec": map[string]any{"retire": c.retire}, "status": c.status}}})
	case r.Method == http.MethodPatch && r.URL.Path == nodes+"/n1" && r.Header.Get("Content-Type") == mergePatch:
		c.retire = body["spec"].(map[string]any)["retire"] == true
	case c.noKind && strings.HasPrefix(r.URL.Path, nodes):
		http.NotFound(w, r)
	case r.Method == http.MethodPatch && r.URL.Path == "/apis/countersign.dev/v1alpha1/countersignnodes/n1":
		c.owner = body["metadata"].(map[string]any)["ownerReferences"]
	case r.Method == http.MethodPatch && r.URL.Path == "/apis/countersign.dev/v1alpha1/countersignnodes/n1/status":
		c.status = body["status"].(map[string]any)
	case r.Method == http.MethodPost && r.URL.Path == "/api/v1/namespaces/default/events":
		c.events = append(c.events, body["reason"].(string))
	default:
		http.NotFound(w, r)
	}
}

func (c *cluster) allLabels() map[string]string {
	found := map[string]string{Label: c.label}
	maps.Copy(found, c.labels)
	return found
}

func answer(t *testing.T, w io.Writer, document any) {
	if err := json.NewEncoder(w).Encode(document); err != nil {
		t.Error(err)
	}
}

// patch takes a merge patch of the node, unless it was made of another version.
func (c *cluster) patch(w http.ResponseWriter, body map[string]any) {
	metadata := body["metadata"].(map[string]any)
	if c.conflicts > 0 || metadata["resourceVersion"] != fmt.Sprint(c.version) {
		c.conflicts--
		c.version++
		w.WriteHeader(http.StatusConflict)
		answer(c.t, w, map[string]string{"message": "the object has been modified"})
		return
	}
	c.version++
	c.label, _ = metadata["labels"].(map[string]any)[Label].(string)
	content, _ := json.Marshal(body["spec"].(map[string]any)["taints"])
	c.taints = nil
	if err := json.Unmarshal(content, &c.taints); err != nil {
		c.t.Error(err)
	}
}

// serveOwn tells of the node's CountersignNode twice a second.
func (c *cluster) serveOwn(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		c.mu.Lock()
		fmt.Fprintf(w, `{"type":"MODIFIED","object":{"spec":{"retire":%v}}}`+"\n", c.retire)
		c.mu.Unlock()
		w.(http.Flusher).Flush()
		pause(r.Context(), 50*time.Millisecond)
	}
}

func (c *cluster) serveWatch(w http.ResponseWriter, r *http.Request) {
	for {
		select {
		case <-r.Context().Done():
			return
		case data, ok := <-c.policies:
			if !ok {
				return
			}
			fmt.Fprintf(w, `{"type":"MODIFIED","object":{"data":%s}}`+"\n", data)
			w.(http.Flusher).Flush()
		}
	}
}

// stub is a node's gate that says what it is told to.
type stub struct {
	mu       sync.Mutex
	open     bool
	fails    error
	problems []prove.Problem
	proofs   int
	policies []string
	refuses  error
	stays    error // why it can't be uninstalled
	removed  int

	fresh     bool  // nothing of ours is on the node
	left      error // why it can't be installed
	installs  []string
	observes  []string // policies; "" for an end
	unable    error    // why it can't be observed
	seen      []verdict.Verdict
	refused   []verdict.Verdict
	allows    bool // when asked anew
	askedAnew []string
}

func (s *stub) Installed() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.fresh, nil
}

func (s *stub) Install(_ context.Context, p Policy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.installs = append(s.installs, string(p.Content))
	if s.left == nil {
		s.fresh = false
	}
	return s.left
}

func (s *stub) Observe(_ context.Context, p Policy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observes = append(s.observes, string(p.Content))
	return s.unable
}

func (s *stub) StopObserving() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observes = append(s.observes, "")
	return nil
}

func (s *stub) Seen() ([]verdict.Verdict, error)    { return take(&s.seen), nil }
func (s *stub) Refused() ([]verdict.Verdict, error) { return take(&s.refused), nil }

func take(of *[]verdict.Verdict) []verdict.Verdict {
	all := *of
	*of = nil
	return all
}

func (s *stub) Verify(_ context.Context, image string) (*verdict.Verdict, error) {
	s.askedAnew = append(s.askedAnew, image)
	return &verdict.Verdict{Allow: s.allows}, nil
}

func (s *stub) Uninstall(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fresh {
		return errors.New("fork/exec /usr/local/bin/countersign-gate: no such file or directory")
	}
	s.removed++
	if s.stays == nil {
		s.fresh = true
	}
	return s.stays
}

func (s *stub) Doctor(context.Context) (*doctor.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	report := &doctor.Report{Runtime: doctor.Runtime{Name: "containerd", Version: "2.4.2"}}
	if s.open {
		report.Checks = []doctor.Check{{Name: "containerd.log", State: doctor.Open, Findings: []doctor.Finding{{Where: "x", Found: "bad\x1b[31m", Wanted: "good", Mend: "mend it"}}}}
	}
	return report, s.fails
}

func (s *stub) Prove(context.Context) (*prove.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proofs++
	return &prove.Receipt{Started: time.Now(), Policy: prove.Policy{Hash: "sha256:p", Serial: 7}, Problems: s.problems, Proven: prove.Proven{Refuse: len(s.problems) == 0}}, nil
}

func (s *stub) InstallPolicy(_ context.Context, p Policy) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies = append(s.policies, string(p.Content)+"|"+string(p.Signatures))
	return s.refuses
}

func newAgent(api *API, host Host) *agent {
	return &agent{due: true, wake: make(chan struct{}, 1), Options: Options{API: api, Node: "n1", Namespace: "ns", Policy: "p", Every: time.Hour, Prove: time.Hour, Effect: "NoSchedule", Host: host}}
}

func TestAnAPIServerThatIsAwayIsAskedLessOftenByAndBy(t *testing.T) {
	ended, stop := context.WithCancel(context.Background())
	stop() // so that nothing is waited for
	var p retry
	var waits []time.Duration
	for range 6 {
		p.begin()
		p.wait(ended)
		waits = append(waits, p.next)
	}
	if want := []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, lastPause, lastPause, lastPause}; !slices.Equal(waits, want) {
		t.Errorf("got %v, expected %v", waits, want)
	}
	p.began = time.Now().Add(-time.Hour) // a watch that lasted
	if p.wait(ended); p.next != 2*time.Second {
		t.Errorf("after a watch that lasted: %v", p.next)
	}
	for range 100 {
		if d := about(time.Second); d < time.Second/2 || d >= 3*time.Second/2 {
			t.Fatalf("about a second: %v", d)
		}
	}
}

func looks(t *testing.T, a *agent) {
	t.Helper()
	if err := a.look(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestTheTaintGoesAfterTheProofAndComesBackWhenOneFails(t *testing.T) {
	other := taint{Key: "other", Effect: "NoSchedule"}
	joined := taint{Key: Taint, Value: "true", Effect: "NoExecute", TimeAdded: "2026-01-01T00:00:00Z"}
	c, api := newCluster(t, other, joined)
	node := &stub{open: true}
	a := newAgent(api, node)
	looks(t, a)
	if !slices.Equal(c.taints, []taint{other, joined}) || c.label != "false" || c.status["phase"] != NotEnforcing || node.proofs != 0 {
		t.Fatalf("open: %v %q %v, %d proofs", c.taints, c.label, c.status, node.proofs)
	}
	if message := c.status["message"].(string); !strings.Contains(message, "mend it") || strings.Contains(message, "\x1b") {
		t.Errorf("message %q", message)
	}
	node.open = false
	looks(t, a)
	if !slices.Equal(c.taints, []taint{other}) || c.label != "true" || c.status["phase"] != Enforcing || c.status["policySerial"] != float64(7) {
		t.Fatalf("proven: %v %q %v", c.taints, c.label, c.status)
	}
	looks(t, a)
	if node.proofs != 1 {
		t.Errorf("nothing changed, and there were %d proofs", node.proofs)
	}
	node.problems = []prove.Problem{{Where: "start", Found: "allowed", Expected: "a refusal"}}
	a.due = true
	looks(t, a)
	if !slices.Equal(c.taints, []taint{other, {Key: Taint, Value: "true", Effect: "NoSchedule"}}) || c.label != "false" || c.status["reason"] != "ProofFailed" {
		t.Errorf("failed: %v %q %v", c.taints, c.label, c.status)
	}
	if !slices.Equal(c.events, []string{"NotEnforcing", "EnforcementProven", "NotEnforcing"}) {
		t.Errorf("events %q", c.events)
	}
	if fmt.Sprint(c.owner) != "[map[apiVersion:v1 kind:Node name:n1 uid:u1]]" {
		t.Errorf("owner %v", c.owner)
	}
	if slices.ContainsFunc(c.tokens, func(token string) bool { return token != "Bearer secret" }) {
		t.Errorf("tokens %q", c.tokens)
	}
}

func TestWhatCannotBeLookedAtIsNotEnforcing(t *testing.T) {
	c, api := newCluster(t)
	node := &stub{fails: errors.New("exec: no such file")}
	a := newAgent(api, node)
	looks(t, a)
	if c.status["phase"] != NotEnforcing || c.status["reason"] != "Unknown" || len(c.taints) != 1 {
		t.Errorf("got %v %v", c.status, c.taints)
	}
	node.fails = nil
	looks(t, a)
	if c.status["phase"] != Enforcing || len(c.taints) != 0 {
		t.Errorf("twin: got %v %v", c.status, c.taints)
	}
}

func TestOthersMayChangeTheNodeMeanwhile(t *testing.T) {
	c, api := newCluster(t, taint{Key: Taint, Effect: "NoExecute"})
	c.conflicts = 2
	looks(t, newAgent(api, &stub{}))
	if len(c.taints) != 0 || c.label != "true" {
		t.Errorf("got %v %q", c.taints, c.label)
	}
	c.conflicts = conflicts + 1
	c.label = ""
	if err := newAgent(api, &stub{}).look(context.Background()); !is(err, http.StatusConflict) {
		t.Errorf("for ever: got %v", err)
	}
}

func TestAnAPIServerThatIsAwayChangesNothingAndIsToldLater(t *testing.T) {
	c, api := newCluster(t, taint{Key: Taint, Effect: "NoExecute"})
	c.down = true
	a := newAgent(api, &stub{})
	if err := a.look(context.Background()); !is(err, http.StatusServiceUnavailable) {
		t.Fatalf("got %v", err)
	}
	c.down = false
	looks(t, a)
	if len(c.taints) != 0 || len(c.events) != 1 {
		t.Errorf("got %v %q", c.taints, c.events)
	}
}

func TestAPolicyOfTheClusterIsBroughtToTheGateOnce(t *testing.T) {
	c, api := newCluster(t)
	node := &stub{}
	o := newAgent(api, node).Options
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- Run(ctx, o) }()
	said := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			c.mu.Lock()
			node.mu.Lock()
			ok := holds()
			node.mu.Unlock()
			c.mu.Unlock()
			if ok {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	c.policies <- `{"policy.json": "one"}`
	said("no proof", func() bool { return node.proofs > 0 })
	c.policies <- `{"policy.json": "one", "else": "x"}`
	c.policies <- `{"policy.json": "two", "policy.json.sig": "s"}`
	said("the policies were not brought", func() bool { return slices.Equal(node.policies, []string{"one|", "two|s"}) })
	said("no proof under the new policy", func() bool { return node.proofs > 1 })
	node.mu.Lock()
	node.refuses = errors.New("POLICY_INVALID: serial 1 is older than 2")
	node.mu.Unlock()
	c.policies <- `{"policy.json": "three"}`
	said("a refused policy is not told", func() bool {
		return strings.Contains(fmt.Sprint(c.status["policyMessage"]), "older than 2") && c.status["phase"] == Enforcing
	})
	c.policies <- `{}`
	said("an empty ConfigMap is not told", func() bool { return strings.Contains(fmt.Sprint(c.status["policyMessage"]), "has no policy.json") })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestANodeThatIsAskedToTakesEnforcementOff(t *testing.T) {
	for name, stays := range map[string]error{"and does": nil, "and can't": errors.New("containerd does not start")} {
		t.Run(name, func(t *testing.T) {
			c, api := newCluster(t, taint{Key: Taint, Effect: "NoExecute"})
			c.retire = true // of an earlier time
			node := &stub{stays: stays}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() { ended <- Run(ctx, newAgent(api, node).Options) }()
			for now := true; now; pause(ctx, 5*time.Millisecond) {
				c.mu.Lock()
				now = c.status["phase"] != Enforcing
				c.mu.Unlock()
			}
			said := ""
			within := 20 * time.Second
			if stays != nil {
				within = 2 * time.Second
			}
			err := Retire(ctx, api, within, func(line string) { said += line })
			cancel()
			if failed := <-ended; failed != nil {
				t.Error(failed)
			}
			if stays == nil && (err != nil || node.removed != 1 || c.status["phase"] != Removed || len(c.taints) != 0 || c.label != "false" || said != "n1: as it was before") {
				t.Errorf("%v, removed %d times, %v %v %q %q", err, node.removed, c.status, c.taints, c.label, said)
			}
			if stays != nil && (err == nil || !strings.Contains(err.Error(), "n1") || c.status["reason"] != "NotRemoved") {
				t.Errorf("%v %v", err, c.status)
			}
		})
	}
}

// helm uninstall waits for every node: one that could not be installed, or observes, has no
// gate that takes anything off.
func TestANodeThatHasNothingOfOursIsAsItWasWhenAskedToRetire(t *testing.T) {
	for _, fresh := range []bool{true, false} {
		t.Run(fmt.Sprint(fresh), func(t *testing.T) {
			c, api := newCluster(t)
			node := &stub{fresh: fresh}
			a := newAgent(api, node)
			a.retire = true
			looks(t, a)
			if c.status["phase"] != Removed || (node.removed == 1) == fresh {
				t.Errorf("removed %d times, %v", node.removed, c.status)
			}
		})
	}
}
