package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/policy"
)

const (
	policies = "/apis/" + version + "/countersignpolicies"
	// settled is how long after a change the policies are read: a watch tells of them one
	// by one.
	settled = 200 * time.Millisecond
	// again is how often what policies name is read anew: no watch tells of it.
	again = 5 * time.Minute
)

// clusterPolicy is what is read of a CountersignPolicy. Its spec is a rendered policy but
// for version and canary, which follow, and has lists by reference beside those inline.
type clusterPolicy struct {
	Metadata struct {
		Name       string `json:"name"`
		Generation int64  `json:"generation"`
	} `json:"metadata"`
	Spec   map[string]any `json:"spec"`
	Status policyStatus   `json:"status"`
}

type policyStatus struct {
	ObservedGeneration int64       `json:"observedGeneration"`
	Hash               string      `json:"hash,omitempty"` // of the rendered policy
	Conditions         []condition `json:"conditions"`
}

type condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
	ObservedGeneration int64     `json:"observedGeneration"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
}

// What is in a spec beside the policy itself.
const (
	selector   = "nodeSelector"
	signatures = "signatures"

	notInForce = "NotInForce" // the reason of a condition
)

// followPolicies has the one CountersignPolicy for this node brought to it, whenever one
// changes. Where there is none, or more than one, the node stays as it is.
func (a *agent) followPolicies(ctx context.Context) {
	for ctx.Err() == nil {
		known := map[string]clusterPolicy{}
		events := make(chan watched[clusterPolicy])
		ended := make(chan error, 1)
		inner, stop := context.WithCancel(ctx)
		go func() {
			ended <- watchAll(inner, a.API, policies, func(e watched[clusterPolicy]) {
				select {
				case events <- e:
				case <-inner.Done():
				}
			})
		}()
		err := a.takeEvents(ctx, known, events, ended)
		stop()
		if ctx.Err() != nil {
			return
		}
		if is(err, http.StatusNotFound) {
			a.notTaken("this cluster has no CountersignPolicy of " + version + ": its CustomResourceDefinition is missing or of another version; the policy in force stays")
		}
		slog.Debug("policies watched again", "ended", err)
		pause(ctx, time.Second)
	}
}

func (a *agent) takeEvents(ctx context.Context, known map[string]clusterPolicy, events <-chan watched[clusterPolicy], ended <-chan error) error {
	quiet := time.NewTimer(settled)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case e := <-events:
			if e.Type == deleted {
				delete(known, e.Object.Metadata.Name)
			} else {
				known[e.Object.Metadata.Name] = e.Object
			}
			quiet.Reset(settled)
		case <-quiet.C:
			a.decide(ctx, known)
			quiet.Reset(again)
		}
	}
}

// decide takes the policy that is for this node.
func (a *agent) decide(ctx context.Context, known map[string]clusterPolicy) {
	var found node
	if err := a.API.get(ctx, "/api/v1/nodes/"+a.Node, &found); err != nil {
		a.notTaken(err.Error())
		return
	}
	var mine []clusterPolicy
	var names []string
	for _, name := range slices.Sorted(maps.Keys(known)) {
		one := known[name]
		// What does not say for which nodes it is may be for this one: render tells of it.
		if labels, err := one.nodes(); err != nil || labels.of(found.Metadata.Labels) {
			mine, names = append(mine, one), append(names, name)
		}
	}
	switch len(mine) {
	case 0:
		a.notTaken("no CountersignPolicy is for this node; the policy in force stays")
		return
	case 1:
	default:
		message := "the policies " + strings.Join(names, ", ") + " are all for node " + a.Node + ": give them nodeSelectors that exclude each other, or delete all but one; the policy in force stays"
		a.notTaken(message)
		for _, one := range mine {
			a.tell(ctx, one, "", "Conflict", errors.New(message))
		}
		return
	}
	one := mine[0]
	_, err := one.nodes()
	var p Policy
	if err == nil {
		p, err = a.render(ctx, one.Spec)
	}
	reason := "Invalid"
	hash := ""
	if err == nil {
		var parsed *policy.Policy
		if parsed, err = policy.Parse(p.Content); err == nil {
			hash, reason = parsed.Hash, notInForce
			err = a.take(ctx, one.Metadata.Name, p)
		}
	}
	if err != nil && hash == "" {
		a.notTaken(fmt.Sprintf("CountersignPolicy %s: %s", one.Metadata.Name, err))
	}
	a.tell(ctx, one, hash, reason, err)
}

// take brings a policy to the node, once.
func (a *agent) take(ctx context.Context, name string, p Policy) error {
	data := map[string]string{key: string(p.Content), sigKey: string(p.Signatures)}
	if a.bring(ctx, configMap{Data: data}) {
		a.awake()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != "" {
		return fmt.Errorf("node %s: %s", a.Node, a.broken)
	}
	return nil
}

// notTaken says why the node has not the cluster's policy.
func (a *agent) notTaken(why string) {
	a.mu.Lock()
	changed := a.broken != why
	a.broken = clean.Line(why, maxShown)
	a.mu.Unlock()
	if changed {
		slog.Error("the cluster's policy is not in force", "error", why)
		a.awake()
	}
}

// nodes gives the labels of the nodes that a policy is for.
func (p clusterPolicy) nodes() (Labels, error) {
	labels, err := typed[map[string]any](p.Spec, selector)
	if err != nil {
		return nil, err
	}
	found := Labels{}
	for name := range labels {
		if found[name], err = typed[string](labels, name); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// tell writes what is the case into the policy's status, unless it is there already: of
// many nodes that find the same, one writes.
func (a *agent) tell(ctx context.Context, one clusterPolicy, hash, reason string, problem error) {
	said := condition{Type: "InForce", Status: "True", Reason: "Taken", Message: "nodes take it; kubectl get countersignnodes says which have", ObservedGeneration: one.Metadata.Generation}
	if problem != nil {
		said.Status, said.Reason, said.Message = "False", reason, clean.Line(problem.Error(), maxShown)
	}
	if len(one.Status.Conditions) > 0 && one.Status.Conditions[0].ObservedGeneration == said.ObservedGeneration && one.Status.Hash == hash {
		// The first node that does not take it is named until the policy is another one.
		if was := one.Status.Conditions[0].Reason; was == said.Reason || (was == notInForce && problem == nil) {
			return
		}
	}
	said.LastTransitionTime = time.Now().UTC().Truncate(time.Second)
	status := map[string]any{"status": policyStatus{ObservedGeneration: one.Metadata.Generation, Hash: hash, Conditions: []condition{said}}}
	path := policies + "/" + one.Metadata.Name
	err := a.API.do(ctx, http.MethodPatch, path+"/status", mergePatch, status, nil)
	if err == nil && problem != nil {
		err = a.eventOn(ctx, map[string]any{"apiVersion": version, "kind": "CountersignPolicy", "name": one.Metadata.Name}, news{"Warning", said.Reason, said.Message})
	}
	if err != nil {
		slog.Warn("the policy's status is not written", "policy", one.Metadata.Name, "error", err)
	}
}
