package agent

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Rollout says which nodes enforce, and which come first.
type Rollout struct {
	Observe  bool          // no node enforces
	On       Labels        // of the nodes that enforce; none: all
	Canaries Labels        // of those that come first; none: all at once
	Soak     time.Duration // how long canaries have to enforce without a complaint before the others follow
}

// Labels are some that a node has to have, all of them.
type Labels map[string]string

// Set reads KEY=VALUE,…; it implements flag.Value.
func (l *Labels) Set(text string) error {
	found := Labels{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" || strings.ContainsAny(pair, " !()") {
			return fmt.Errorf("%q, expected KEY=VALUE", pair)
		}
		found[key] = value
	}
	*l = found
	return nil
}

// String gives what Set reads, sorted.
func (l *Labels) String() string {
	if l == nil {
		return ""
	}
	pairs := make([]string, 0, len(*l))
	for _, key := range slices.Sorted(maps.Keys(*l)) {
		pairs = append(pairs, key+"="+(*l)[key])
	}
	return strings.Join(pairs, ",")
}

func (l Labels) of(labels map[string]string) bool {
	for key, value := range l {
		if has, ok := labels[key]; !ok || has != value {
			return false
		}
	}
	return true
}

// step is what is to become of the node now.
type step struct {
	phase, reason, message string
	keepTaint              bool // the node is to enforce later
}

// step says whether this node is to enforce now. A node that enforces does not wait for
// others, and nothing that they say takes its enforcement off.
func (a *agent) step(ctx context.Context, labels map[string]string) (step, error) {
	switch {
	case a.Rollout.Observe:
		return step{phase: Observing, reason: "Asked", message: "nothing is refused: the chart's value phase is observe"}, nil
	case !a.Rollout.On.of(labels):
		return step{phase: Observing, reason: "NotSelected", message: "nothing is refused: the node has not the labels " + a.Rollout.On.String()}, nil
	case len(a.Rollout.Canaries) == 0 || a.Rollout.Canaries.of(labels) || a.mode == Enforcing:
		return step{phase: Enforcing}, nil
	}
	if installed, err := a.Host.Installed(); err != nil || installed {
		return step{phase: Enforcing}, err
	}
	next, err := a.canaries(ctx)
	if err != nil || next.phase != Enforcing {
		a.calm = time.Time{}
		return next, err
	}
	if a.calm.IsZero() {
		a.calm = time.Now() // by this node's own clock: those of others may differ
	}
	if left := a.Rollout.Soak - time.Since(a.calm); left > 0 {
		return waiting(fmt.Sprintf("the canaries enforce; this node follows in %s at the earliest", left.Round(time.Second))), nil
	}
	return next, nil
}

func waiting(message string) step {
	return step{phase: Observing, reason: "WaitingForCanaries", message: message, keepTaint: true}
}

// canaries gives the phase Enforcing where every canary enforces and none complains.
func (a *agent) canaries(ctx context.Context) (step, error) {
	var list struct {
		Items []node `json:"items"`
	}
	query := url.Values{"labelSelector": {a.Rollout.Canaries.String()}}
	if err := a.API.get(ctx, "/api/v1/nodes?"+query.Encode(), &list); err != nil {
		return step{}, err
	}
	if len(list.Items) == 0 {
		return waiting("no node has the labels of a canary: " + a.Rollout.Canaries.String()), nil
	}
	for _, canary := range list.Items {
		name := canary.Metadata.Name
		var said struct {
			Status State `json:"status"`
		}
		err := a.API.get(ctx, nodes+"/"+name, &said)
		switch {
		case is(err, http.StatusNotFound):
			return waiting("the canary " + name + " has not said anything yet"), nil
		case err != nil:
			return step{}, err
		case said.Status.Halt != nil:
			return halted(said.Status.Halt.Reason, name, said.Status.Halt.Message), nil
		case said.Status.Phase == NotEnforcing && said.Status.Reason != noPolicy:
			return halted("CanaryNotEnforcing", name, said.Status.Reason+": "+said.Status.Message), nil
		case said.Status.Phase != Enforcing:
			return waiting("the canary " + name + " does not enforce yet"), nil
		}
	}
	return step{phase: Enforcing}, nil
}

func halted(reason, canary, message string) step {
	return step{phase: Halted, reason: reason, message: "the canary " + canary + ": " + message, keepTaint: true}
}
