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
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
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
)

// Options say what to look after.
type Options struct {
	API       *API
	Node      string        // the node's name in the cluster
	Namespace string        // of the policy's ConfigMap
	Policy    string        // the name of that ConfigMap; "" leaves policies to others
	Every     time.Duration // between two looks
	Prove     time.Duration // between two proofs while nothing changes
	Effect    string        // of the taint: NoSchedule or NoExecute
	Host      Host
}

// Host is what the agent has the node's own gate do.
type Host interface {
	Doctor(ctx context.Context) (*doctor.Report, error)
	Prove(ctx context.Context) (*prove.Receipt, error)
	InstallPolicy(ctx context.Context, policy, signatures []byte) error
	Uninstall(ctx context.Context) error
}

// State is what is known of the node. It is the status of its CountersignNode.
type State struct {
	Phase         string         `json:"phase"`  // Enforcing, NotEnforcing, Removed
	Reason        string         `json:"reason"` // one word
	Message       string         `json:"message,omitempty"`
	Runtime       string         `json:"runtime,omitempty"`
	Policy        string         `json:"policy,omitempty"` // sha256:… in force
	PolicySerial  int64          `json:"policySerial,omitempty"`
	PolicyMessage string         `json:"policyMessage,omitempty"` // why the cluster's policy is not in force
	ProvenAt      *time.Time     `json:"provenAt,omitempty"`
	Receipt       *prove.Receipt `json:"receipt,omitempty"`
}

// Phases.
const (
	Enforcing    = "Enforcing"
	NotEnforcing = "NotEnforcing"
	Removed      = "Removed" // on request
)

type agent struct {
	Options

	mu      sync.Mutex
	policy  string // hash of the ConfigMap's content that was brought to the gate last
	refused string // why that was not taken
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
	a := &agent{Options: o, due: true, wake: make(chan struct{}, 1)}
	a.begin(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { follow(ctx, a, nodes, o.Node, a.ask) })
	if o.Policy != "" {
		watching.Go(func() { follow(ctx, a, "/api/v1/namespaces/"+o.Namespace+"/configmaps", o.Policy, a.bring) })
	}
	timer := time.NewTicker(o.Every)
	defer timer.Stop()
	for {
		if err := a.look(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("the cluster could not be told", "error", err)
		}
		select {
		case <-ctx.Done():
			watching.Wait()
			return nil
		case <-timer.C:
		case <-a.wake:
		}
	}
}

// begin takes back that the node was to be retired: whoever starts an agent after that
// wants it enforcing again. It waits for the API server.
func (a *agent) begin(ctx context.Context) {
	for {
		patch := map[string]any{"spec": map[string]any{"retire": false}}
		err := a.API.do(ctx, http.MethodPatch, nodes+"/"+a.Node, mergePatch, patch, nil)
		if err == nil || is(err, http.StatusNotFound) || ctx.Err() != nil {
			return
		}
		slog.Warn("the API server is asked again", "error", err)
		pause(ctx, time.Second)
	}
}

// follow does something with an object whenever it changes, and has the node looked at
// where that was something new.
func follow[T any](ctx context.Context, a *agent, list, name string, do func(context.Context, T) bool) {
	for ctx.Err() == nil {
		err := watch(ctx, a.API, list, name, func(object T) {
			if do(ctx, object) {
				select {
				case a.wake <- struct{}{}:
				default: // one is enough
				}
			}
		})
		if ctx.Err() == nil {
			slog.Debug("watched again", "list", list, "name", name, "ended", err)
			pause(ctx, time.Second)
		}
	}
}

// own is what is asked of a CountersignNode.
type own struct {
	Spec struct {
		Retire bool `json:"retire"`
	} `json:"spec"`
}

// ask takes up what was asked of this node; it says whether that is new.
func (a *agent) ask(_ context.Context, o own) bool {
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

func pause(ctx context.Context, so time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(so):
	}
}

// bring has the gate take a policy, once; it says whether that was a new one.
func (a *agent) bring(ctx context.Context, m configMap) bool {
	if a.retiring() {
		return false
	}
	policy, signatures := m.Data[key], m.Data[sigKey]
	sum := sha256.Sum256([]byte(policy + "\x00" + signatures))
	hash := hex.EncodeToString(sum[:])
	a.mu.Lock()
	known := a.policy == hash && a.refused == ""
	a.mu.Unlock()
	if known {
		return false
	}
	err := errors.New("the ConfigMap has no " + key)
	if policy != "" {
		err = a.Host.InstallPolicy(ctx, []byte(policy), []byte(signatures))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.policy, a.refused, a.due = hash, "", true
	if err != nil {
		a.refused = clean.Line(err.Error(), maxShown)
		slog.Error("the cluster's policy is not in force", "error", err)
	}
	return true
}

// look says how the node is, and tells the cluster.
func (a *agent) look(ctx context.Context) error {
	state := a.state(ctx)
	if err := a.mark(ctx, state); err != nil {
		return err
	}
	if err := a.write(ctx, state); err != nil {
		return err
	}
	if state.Phase != a.told.Phase {
		if err := a.event(ctx, state); err != nil {
			return err
		}
		slog.Info(state.Phase, "reason", state.Reason, "message", state.Message)
	}
	a.told = state
	return nil
}

// state has the node's doctor look, and a proof made where one is due: at first, after
// anything was open, after a new policy, and every so often.
func (a *agent) state(ctx context.Context) State {
	a.mu.Lock()
	state := State{PolicyMessage: a.refused}
	due, retire := a.due, a.retire
	a.mu.Unlock()
	if retire && !a.retired {
		if err := a.Host.Uninstall(ctx); err != nil {
			return a.not(state, "NotRemoved", err.Error())
		}
		a.retired = true
	}
	if a.retired {
		return State{Phase: Removed, Reason: "Asked", Message: "enforcement was taken off this node; delete this pod to bring it back"}
	}
	report, err := a.Host.Doctor(ctx)
	if err != nil {
		return a.not(state, "Unknown", err.Error())
	}
	state.Runtime = report.Runtime.Name + " " + report.Runtime.Version
	for _, check := range report.Checks {
		if check.State == doctor.Open || check.State == doctor.Unknown {
			return a.not(state, "Open", describe(check))
		}
	}
	if due || a.receipt == nil || time.Since(a.receipt.Started) > a.Prove {
		if a.receipt, err = a.Host.Prove(ctx); err != nil {
			a.receipt = nil
			return a.not(state, "NotProven", err.Error())
		}
	}
	if !a.receipt.Holds() {
		problem := a.receipt.Problems[0]
		a.receipt = nil
		return a.not(state, "ProofFailed", fmt.Sprintf("%s: %s; expected %s", problem.Where, problem.Found, problem.Expected))
	}
	a.mu.Lock()
	a.due = false
	a.mu.Unlock()
	state.Phase, state.Reason = Enforcing, "Proven"
	state.Policy, state.PolicySerial = a.receipt.Policy.Hash, a.receipt.Policy.Serial
	state.ProvenAt, state.Receipt = &a.receipt.Started, a.receipt
	return state
}

func describe(check doctor.Check) string {
	if len(check.Findings) > 0 {
		return check.Name + ": " + check.Findings[0].String() + "; " + check.Findings[0].Mend
	}
	return check.Name + ": " + check.Note
}

// not gives the state of a node that does not enforce, and has the next look prove.
func (a *agent) not(state State, reason, message string) State {
	a.mu.Lock()
	a.due = true
	a.mu.Unlock()
	state.Phase, state.Reason, state.Message = NotEnforcing, reason, clean.Line(message, maxShown)
	return state
}
