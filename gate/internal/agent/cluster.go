package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"countersign/gate/internal/clean"
)

// node is what is read and written of a Node.
type node struct {
	Metadata struct {
		UID             string            `json:"uid,omitempty"`
		ResourceVersion string            `json:"resourceVersion"`
		Name            string            `json:"name,omitempty"`
		Labels          map[string]string `json:"labels,omitempty"`
	} `json:"metadata"`
	Spec struct {
		Taints []taint `json:"taints"`
	} `json:"spec"`
}

type taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
	// Kubernetes gives it for NoExecute.
	TimeAdded string `json:"timeAdded,omitempty"`
}

const conflicts = 5

// mark takes the taint away or puts it back, and sets the label. Others write taints as
// well, so what was read has to be what is there still.
func (a *agent) mark(ctx context.Context, state State) error {
	path := "/api/v1/nodes/" + a.Node
	for try := 0; ; try++ {
		var found node
		if err := a.API.get(ctx, path, &found); err != nil {
			return err
		}
		if found.Metadata.UID != a.uid { // its taint is not about the one that was looked at
			return errors.New("the node has joined anew meanwhile")
		}
		others := slices.DeleteFunc(slices.Clone(found.Spec.Taints), func(t taint) bool { return t.Key == Taint })
		wanted, label := others, "true"
		if state.Phase != Enforcing {
			label = "false"
		}
		switch state.taint {
		case kept:
			wanted = found.Spec.Taints
		case putBack:
			wanted = append(others, taint{Key: Taint, Value: "true", Effect: a.Effect})
			// A node that has just joined keeps the taint that it came with, whatever its
			// effect; one that stopped to enforce gets none that throws out what runs
			// unless that was asked for.
			if had := slices.IndexFunc(found.Spec.Taints, func(t taint) bool { return t.Key == Taint }); had >= 0 {
				wanted[len(wanted)-1] = found.Spec.Taints[had]
			}
		}
		if slices.Equal(wanted, found.Spec.Taints) && found.Metadata.Labels[Label] == label {
			return nil
		}
		patch := map[string]any{
			"metadata": map[string]any{"resourceVersion": found.Metadata.ResourceVersion, "labels": map[string]string{Label: label}},
			"spec":     map[string]any{"taints": wanted},
		}
		err := a.API.do(ctx, http.MethodPatch, path, mergePatch, patch, nil)
		if !is(err, http.StatusConflict) || try == conflicts {
			return err
		}
	}
}

// write keeps the node's CountersignNode. It goes with its Node.
func (a *agent) write(ctx context.Context, state State) error {
	if same(state, a.told) {
		return nil
	}
	var owner node
	if err := a.API.get(ctx, "/api/v1/nodes/"+a.Node, &owner); err != nil {
		return err
	}
	path := nodes + "/" + a.Node
	object := map[string]any{
		"apiVersion": version, "kind": "CountersignNode",
		"metadata": map[string]any{"name": a.Node, "ownerReferences": []map[string]any{
			{"apiVersion": "v1", "kind": "Node", "name": a.Node, "uid": owner.Metadata.UID},
		}},
	}
	if err := a.API.apply(ctx, path, object); err != nil {
		return err
	}
	object["status"] = state
	delete(object, "metadata")
	object["metadata"] = map[string]any{"name": a.Node}
	return a.API.apply(ctx, path+"/status", object)
}

// unwritten tells of it, once, where nothing says how the node is: the kind has gone, or
// has another version, or the right to write it is missing.
func (a *agent) unwritten(ctx context.Context, why error) error {
	if a.unwrote || !is(why, http.StatusNotFound) && !is(why, http.StatusForbidden) {
		return nil
	}
	err := a.event(ctx, news{"Warning", "StatusNotWritten", clean.Line("the CountersignNode of this node can't be written, and the node goes on as it is: "+why.Error()+"; expected CountersignNodes of "+version+": install the chart's CRDs and RBAC anew", maxEvent)})
	a.unwrote = err == nil
	return err
}

// same says whether two states tell the same; when a proof was made anew counts.
func same(a, b State) bool {
	one, errA := json.Marshal(a)
	other, errB := json.Marshal(b)
	return errA == nil && errB == nil && string(one) == string(other)
}

// news are what is new since the cluster was told last.
func (a *agent) news(state State) (found []news) {
	switch {
	case state.Phase == a.told.Phase && state.Reason == a.told.Reason:
	case state.Phase == Enforcing && state.Reason == "Proven":
		found = append(found, news{"Normal", "EnforcementProven", "nothing starts here that the policy does not allow: a canary that nobody signed was refused at pull and at start"})
	case state.Phase == Observing:
		found = append(found, news{"Normal", Observing, state.Reason + ": " + state.Message})
	default:
		found = append(found, news{"Warning", state.Phase, state.Reason + ": " + state.Message})
	}
	if state.PolicyMessage != "" && state.PolicyMessage != a.told.PolicyMessage {
		found = append(found, news{"Warning", "PolicyNotInForce", state.PolicyMessage})
	}
	if state.skew != "" && a.told.skew == "" {
		found = append(found, news{"Warning", "ClockSkew", state.skew})
	}
	if state.Halt != nil && a.told.Halt == nil {
		found = append(found, news{"Warning", "RolloutHalted", state.Halt.Reason + ": " + state.Halt.Message})
	}
	return found
}

// news is an event to be.
type news struct{ kind, reason, message string }

// event tells of something where people look for it: with the node.
func (a *agent) event(ctx context.Context, one news) error {
	return a.eventOn(ctx, map[string]any{"apiVersion": "v1", "kind": "Node", "name": a.Node, "uid": a.Node}, one)
}

func (a *agent) eventOn(ctx context.Context, object map[string]any, one news) error {
	now := time.Now().UTC()
	return a.API.do(ctx, http.MethodPost, "/api/v1/namespaces/default/events", "application/json", map[string]any{
		"apiVersion": "v1", "kind": "Event", "type": one.kind, "reason": one.reason, "message": one.message,
		"metadata":       map[string]any{"generateName": cmp.Or(a.Node, "node") + ".", "namespace": "default"},
		"involvedObject": object,
		"source":         map[string]any{"component": component, "host": a.Node},
		"firstTimestamp": now.Format(time.RFC3339), "lastTimestamp": now.Format(time.RFC3339), "count": 1,
	}, nil)
}
