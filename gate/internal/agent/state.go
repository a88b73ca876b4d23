package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
)

// State is what is known of the node. It is the status of its CountersignNode.
type State struct {
	Phase         string         `json:"phase"`  // Enforcing, Observing, Halted, NotEnforcing, Removed
	Reason        string         `json:"reason"` // one word
	Message       string         `json:"message,omitempty"`
	Runtime       string         `json:"runtime,omitempty"`
	Policy        string         `json:"policy,omitempty"` // sha256:… in force
	PolicySerial  int64          `json:"policySerial,omitempty"`
	PolicyMessage string         `json:"policyMessage,omitempty"` // why the cluster's policy is not in force
	ProvenAt      *time.Time     `json:"provenAt,omitempty"`
	Receipt       *prove.Receipt `json:"receipt,omitempty"`
	LastRefusal   *Refusal       `json:"lastRefusal,omitempty"`
	Halt          *Halt          `json:"halt,omitempty"`     // of a canary, for the others
	Observed      *Observed      `json:"observed,omitempty"` // by a node that refuses nothing

	taint taintState
	skew  string // of the node's clock, for people
}

// Phases.
const (
	Enforcing    = "Enforcing"
	Observing    = "Observing" // nothing is refused
	Halted       = "Halted"    // as Observing; it was to enforce, and a canary complains
	NotEnforcing = "NotEnforcing"
	Removed      = "Removed" // on request
)

const noPolicy = "NoPolicy"

// taintState is what becomes of a node's taint.
type taintState int

const (
	taken   taintState = iota // there is none
	kept                      // as it is: the node is as it was before us
	putBack                   // there is one
)

// state brings the node to where it is to be, and says how it is.
func (a *agent) state(ctx context.Context, labels map[string]string) (State, error) {
	a.mu.Lock()
	state := State{PolicyMessage: a.broken}
	retire := a.retire
	a.mu.Unlock()
	if retire || a.retired {
		return a.remove(ctx, state), nil
	}
	wanted, err := a.step(ctx, labels)
	if err != nil {
		return state, err
	}
	if wanted.phase != Enforcing {
		return a.observe(ctx, state, wanted), nil
	}
	if refusal := a.enforce(ctx); refusal != nil {
		return *refusal, nil
	}
	state = a.proven(ctx, state)
	a.complaints(ctx, &state, len(a.Rollout.Canaries) > 0 && a.Rollout.Canaries.of(labels))
	if a.failed != nil && state.Phase == Enforcing {
		state.Reason, state.Message = "NotUpgraded", clean.Line(a.failed.Error(), maxShown)
	}
	return state, nil
}

// remove takes enforcement off, on request.
func (a *agent) remove(ctx context.Context, state State) State {
	if !a.retired {
		a.changing.Lock()
		defer a.changing.Unlock()
		installed, err := a.Host.Installed()
		err = errors.Join(err, a.Host.StopObserving())
		if installed { // a node that never was, or no more, has no gate that could be asked
			err = errors.Join(err, a.Host.Uninstall(ctx))
		}
		if err != nil {
			return a.not(state, "NotRemoved", err.Error())
		}
		a.retired, a.mode = true, ""
	}
	return State{Phase: Removed, Reason: "Asked", Message: "enforcement was taken off this node; delete this pod to bring it back"}
}

// observe has the node enforce nothing, and what starts there judged.
func (a *agent) observe(ctx context.Context, state State, wanted step) State {
	a.changing.Lock()
	defer a.changing.Unlock()
	installed, err := a.Host.Installed()
	if err == nil && installed {
		err = a.Host.Uninstall(ctx)
	}
	if err != nil {
		return a.not(state, "NotRemoved", err.Error())
	}
	if a.mode != Observing {
		a.mode, a.receipt, a.failed, a.seen = Observing, nil, nil, Observed{Since: time.Now().UTC().Truncate(time.Second)}
	}
	state.Phase, state.Reason, state.Message = wanted.phase, wanted.reason, wanted.message
	if wanted.keepTaint {
		state.taint = kept
	}
	if a.content == nil {
		return a.asItWas(state, noPolicy, "no policy has come yet")
	}
	if err := a.Host.Observe(ctx, *a.content); err != nil {
		return a.asItWas(state, "NotObserving", err.Error())
	}
	verdicts, err := a.Host.Seen()
	if err != nil {
		return a.asItWas(state, "NotObserving", err.Error())
	}
	a.observed(verdicts)
	state.Observed = a.seen.report()
	return state
}

// enforce has the node brought under enforcement, by the programs of this agent; it gives
// the state of a node that is not.
func (a *agent) enforce(ctx context.Context) *State {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.mode == Enforcing || !a.brings() {
		return nil
	}
	installed, err := a.Host.Installed()
	if err != nil {
		state := a.not(State{}, "Unknown", err.Error())
		return &state
	}
	state := State{PolicyMessage: a.broken}
	if a.content == nil {
		if installed {
			return nil // it goes on by the policy that it has
		}
		state = a.asItWas(state, noPolicy, "no policy has come yet")
		return &state
	}
	if a.failed == nil || time.Now().After(a.next) {
		if err = a.Host.StopObserving(); err == nil {
			err = a.Host.Install(ctx, *a.content)
		}
		a.failed, a.tries = err, a.tries+1
		a.next = time.Now().Add(min(a.Every*time.Duration(a.tries), retries))
	}
	switch {
	case a.failed == nil:
		a.mode, a.tries = Enforcing, 0
		a.mu.Lock()
		a.due = true
		a.mu.Unlock()
	case !installed:
		state = a.asItWas(state, "NotInstalled", a.failed.Error())
		return &state
	}
	return nil
}

const (
	// retries is the longest time between two tries to install.
	retries = 5 * time.Minute
	atOnce  = 2 * time.Second
)

// proven has the node's doctor look, and a proof made where one is due: at first, after
// anything was open, after a new policy, and every so often. What was merely not seen is
// looked at again before the node is called not enforcing: a proof loses races with pods,
// and its time on a busy node. What was seen to be open counts at once.
func (a *agent) proven(ctx context.Context, state State) State {
	for began, try := time.Now(), 1; ; try++ {
		found, seen := a.tried(ctx, state)
		if found.Phase == Enforcing || seen || try == tries || time.Since(began) > patient {
			return found
		}
		slog.Warn("looked at again", "reason", found.Reason, "message", found.Message)
		pause(ctx, a.between)
		if ctx.Err() != nil {
			return found
		}
	}
}

const (
	// tries is how often a node is looked at before it is called not enforcing for what was not seen.
	tries = 3
	// patient is how long after the first of them another one may begin: as long as one proof.
	patient = 90 * time.Second
	// between two of them pods come and go.
	between = 2 * time.Second
)

// tried is one try of proven; it says whether what is wrong was seen: a setting that is
// open, or a canary that was let through.
func (a *agent) tried(ctx context.Context, state State) (_ State, seen bool) {
	a.mu.Lock()
	due := a.due
	a.due = false // what comes while a proof is made asks for another one
	a.mu.Unlock()
	report, err := a.Host.Doctor(ctx)
	if err != nil {
		return a.not(state, "Unknown", err.Error()), false
	}
	state.Runtime = report.Runtime.Name + " " + report.Runtime.Version
	for _, check := range report.Checks {
		if check.State == doctor.Open || check.State == doctor.Unknown {
			return a.not(state, "Open", describe(check)), check.State == doctor.Open
		}
	}
	if due || a.receipt == nil || time.Since(a.receipt.Started) > a.Prove {
		if a.receipt, err = a.Host.Prove(ctx); err != nil {
			a.receipt = nil
			return a.not(state, "NotProven", err.Error()), false
		}
	}
	if !a.receipt.Holds() {
		problem, through := a.receipt.Problems[0], a.receipt.Through()
		a.receipt = nil
		return a.not(state, "ProofFailed", fmt.Sprintf("%s: %s; expected %s", problem.Where, problem.Found, problem.Expected)), through
	}
	state.Phase, state.Reason = Enforcing, "Proven"
	state.Policy, state.PolicySerial = a.receipt.Policy.Hash, a.receipt.Policy.Serial
	state.ProvenAt, state.Receipt = &a.receipt.Started, a.receipt
	return state, true
}

func describe(check doctor.Check) string {
	if len(check.Findings) > 0 {
		return check.Name + ": " + check.Findings[0].String() + "; " + check.Findings[0].Mend
	}
	return check.Name + ": " + check.Note
}

// maxSkew is what clocks may differ by: certificates and timestamps are good to the minute.
const maxSkew = time.Minute

// clock says where the node's clock differs from the API server's: what it judges by time
// is then judged by another one than people expect.
func (s *State) clock(ahead time.Duration) {
	if ahead.Abs() <= maxSkew {
		return
	}
	side := "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	s.skew = fmt.Sprintf("this node's clock is %s %s the API server's: certificates, timestamps and expiry are judged by it; synchronise it (chronyd, systemd-timesyncd)", ahead.Abs().Round(time.Minute), side)
	if s.Message != "" {
		s.Message += "; "
	}
	s.Message = clean.Line(s.Message+s.skew, maxShown)
}

// not gives the state of a node that does not enforce, and has the next look prove.
func (a *agent) not(state State, reason, message string) State {
	a.mu.Lock()
	a.due = true
	a.mu.Unlock()
	state.Phase, state.Reason, state.Message, state.taint = NotEnforcing, reason, clean.Line(message, maxShown), putBack
	return state
}

// asItWas gives the state of a node that we left as it was before us, with its taints.
func (a *agent) asItWas(state State, reason, message string) State {
	state = a.not(state, reason, message)
	state.taint = kept
	return state
}
