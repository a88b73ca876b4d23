// Package agent keeps a cluster informed of one node's enforcement: it has the node's
// own gate prove itself, takes the node's taint away after that and puts it back when a
// later proof fails, brings new policies to the gate, and writes down what is the case
// as a CountersignNode. It decides about no container: a node goes on enforcing without
// it, and without the API server.
package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
	"countersign/gate/internal/verdict"
)

// Names in the cluster.
const (
	Group = "countersign.dev"
	Taint = Group + "/not-enforcing"
	Label = Group + "/enforcing"

	version  = Group + "/v1alpha1"
	nodes    = "/apis/" + version + "/countersignnodes"
	key      = "policy.json"     // of the ConfigMap
	sigKey   = "policy.json.sig" // beside it, optional
	maxShown = 1024

	component = "countersign-agent" // of events
)

// Options say what to look after.
type Options struct {
	API       *API
	Node      string // the node's name in the cluster
	Namespace string // of the policy's ConfigMap
	Policy    string // the name of that ConfigMap; "" leaves policies to others
	Policies  bool   // they come as CountersignPolicies instead
	Rollout   Rollout
	Every     time.Duration // between two looks
	Prove     time.Duration // between two proofs while nothing changes
	Effect    string        // of the taint: NoSchedule or NoExecute
	PodEvents bool          // pods are told why they were refused
	Host      Host
	Ready     func(bool) // is told whether the node is as it is to be; may be nil
}

// Policy is a rendered one, with its signatures.
type Policy struct{ Content, Signatures []byte }

// Host is what the agent has the node do, and its gate.
type Host interface {
	Installed() (bool, error)
	Install(ctx context.Context, p Policy) error
	Uninstall(ctx context.Context) error
	Doctor(ctx context.Context) (*doctor.Report, error)
	Prove(ctx context.Context) (*prove.Receipt, error)
	InstallPolicy(ctx context.Context, p Policy) error
	Verify(ctx context.Context, image string) (*verdict.Verdict, error)
	Refused() ([]verdict.Verdict, error) // what the gate has judged since the last call

	Observe(ctx context.Context, p Policy) error
	StopObserving() error
	Seen() ([]verdict.Verdict, error) // what the observer has judged since the last call
}

type agent struct {
	Options

	changing sync.Mutex    // the node
	mode     string        // Enforcing or Observing, once this agent has made it so
	tries    int           // of an install that failed
	next     time.Time     // when it is tried again
	failed   error         // why it failed
	calm     time.Time     // since when no canary complains
	between  time.Duration // two tries to see that the node enforces
	seen     Observed
	last     *Refusal
	halt     *Halt
	pods     pods
	uid      string // of the Node, as it was read last
	unwrote  bool   // and the node's events say so

	mu      sync.Mutex
	content *Policy // of the cluster
	policy  string  // hash of what was brought last
	broken  string  // why that was not taken
	receipt *prove.Receipt
	due     bool  // a proof, at the next look
	retire  bool  // enforcement is to be taken off this node
	retired bool  // and was
	told    State // what the cluster knows
	wake    chan struct{}
}

// Run looks after the node until the context ends. What fails is tried again at the next
// look: a node whose API server is away goes on as it is.
func Run(ctx context.Context, o Options) error {
	a := &agent{Options: o, due: true, between: between, wake: make(chan struct{}, 1)}
	a.begin(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { follow(ctx, a, nodes, o.Node, a.takeUp) })
	if o.Policies {
		watching.Go(func() { a.followPolicies(ctx) })
	} else if o.Policy != "" {
		watching.Go(func() { follow(ctx, a, "/api/v1/namespaces/"+o.Namespace+"/configmaps", o.Policy, a.bring) })
	}
	timer := time.NewTicker(o.Every)
	defer timer.Stop()
	if a.brings() {
		select { // the policy comes at once, where there is one
		case <-ctx.Done():
		case <-time.After(atOnce):
		case <-a.wake:
		}
	}
	for {
		if err := a.look(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("the cluster could not be told", "error", err)
		}
		select {
		case <-ctx.Done():
			watching.Wait()
			return a.Host.StopObserving()
		case <-timer.C:
		case <-a.wake:
		}
	}
}

// begin takes back that the node was to be retired: whoever starts an agent after that
// wants it enforcing again. It waits for the API server, and for the right to say how the
// node is: without that nothing about it changes.
func (a *agent) begin(ctx context.Context) {
	for again := (retry{}); ; {
		again.begin()
		patch := map[string]any{"spec": map[string]any{"retire": false}}
		err := a.API.do(ctx, http.MethodPatch, nodes+"/"+a.Node, mergePatch, patch, nil)
		if err == nil || is(err, http.StatusNotFound) {
			err = a.API.do(ctx, http.MethodPatch, "/api/v1/nodes/"+a.Node+"?dryRun=All", mergePatch, map[string]any{}, nil)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		slog.Warn("nothing is changed; the API server is asked again", "error", err)
		again.wait(ctx)
	}
}

// follow does something with an object whenever it changes, and has the node looked at
// where that was something new.
func follow[T any](ctx context.Context, a *agent, list, name string, do func(context.Context, T) bool) {
	for again := (retry{}); ctx.Err() == nil; {
		again.begin()
		err := watch(ctx, a.API, list, name, func(object T) {
			if do(ctx, object) {
				a.awake()
			}
		})
		if ctx.Err() == nil {
			slog.Debug("watched again", "list", list, "name", name, "ended", err)
			again.wait(ctx)
		}
	}
}

// brings says whether policies come to the node by this agent.
func (a *agent) brings() bool { return a.Policy != "" || a.Policies }

// awake has the node looked at soon.
func (a *agent) awake() {
	select {
	case a.wake <- struct{}{}:
	default: // one is enough
	}
}

// own is what is asked of a CountersignNode.
type own struct {
	Spec struct {
		Retire bool `json:"retire"`
	} `json:"spec"`
}

// takeUp takes up what was wanted of this node; it says whether that is new.
func (a *agent) takeUp(_ context.Context, o own) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.retire
	a.retire = o.Spec.Retire
	return a.retire != was
}

func (a *agent) retiring() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.retire
}

// bring takes a policy up, once; it says whether that was a new one.
func (a *agent) bring(ctx context.Context, m configMap) bool {
	if a.retiring() {
		return false
	}
	p := Policy{[]byte(m.Data[key]), []byte(m.Data[sigKey])}
	sum := sha256.Sum256(slices.Concat(p.Content, []byte{0}, p.Signatures))
	hash := hex.EncodeToString(sum[:])
	a.mu.Lock()
	known := a.policy == hash && a.broken == ""
	a.mu.Unlock()
	if known {
		return false
	}
	err := errors.New("the ConfigMap has no " + key)
	if len(p.Content) > 0 {
		err = a.apply(ctx, p)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.policy, a.broken, a.due = hash, "", a.due || err == nil
	if err != nil { // the policy in force stays, and so does what is proven of it
		a.broken = clean.Line(err.Error(), maxShown)
		slog.Error("the cluster's policy is not in force", "error", err)
	}
	return true
}

// apply has the node's gate, or its observer, take a policy. A node that has neither yet
// begins with it.
func (a *agent) apply(ctx context.Context, p Policy) (err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	installed, err := a.Host.Installed()
	switch {
	case err != nil:
	case a.mode == Observing:
		err = a.Host.Observe(ctx, p)
	case installed:
		err = a.Host.InstallPolicy(ctx, p)
	}
	if err == nil {
		a.content, a.halt, a.next = &p, nil, time.Time{}
	}
	return err
}

// joined has the agent begin anew, on a machine that left the cluster and joined it again:
// what was asked of the Node that is gone, and told of it, went with it.
func (a *agent) joined() {
	slog.Info("the node has joined anew")
	a.changing.Lock()
	defer a.changing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retire, a.retired, a.due = false, false, true
	a.mode, a.told, a.next, a.failed = "", State{}, time.Time{}, nil
}

// look says how the node is, and tells the cluster. Where that can't be asked, nothing
// about the node changes.
func (a *agent) look(ctx context.Context) error {
	var found node
	if err := a.API.get(ctx, "/api/v1/nodes/"+a.Node, &found); err != nil {
		return err
	}
	if a.uid != "" && a.uid != found.Metadata.UID {
		a.joined()
	}
	a.uid = found.Metadata.UID
	state, err := a.state(ctx, found.Metadata.Labels)
	if err != nil {
		return err
	}
	state.clock(a.API.Ahead())
	if a.Ready != nil {
		a.Ready(state.Phase != NotEnforcing)
	}
	if err := a.mark(ctx, state); err != nil {
		return err
	}
	if err := a.write(ctx, state); err != nil {
		return errors.Join(err, a.unwritten(ctx, err))
	}
	a.unwrote = false
	for _, one := range a.news(state) {
		if err := a.event(ctx, one); err != nil {
			return err
		}
	}
	a.tellPods(ctx)
	if state.Phase != a.told.Phase || state.Reason != a.told.Reason {
		slog.Info(state.Phase, "reason", state.Reason, "message", state.Message)
	}
	a.told = state
	return nil
}
