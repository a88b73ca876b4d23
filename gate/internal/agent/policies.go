package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
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
	// spread is over how long the agents of a cluster tell what came of a policy, so that
	// the first has told it before the others would.
	spread = 2 * time.Second
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
	for wait := (retry{}); ctx.Err() == nil; {
		wait.begin()
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
		wait.wait(ctx)
	}
}

func (a *agent) takeEvents(ctx context.Context, known map[string]clusterPolicy, events <-chan watched[clusterPolicy], ended <-chan error) error {
	quiet, telling := time.NewTimer(settled), time.NewTimer(0)
	defer quiet.Stop()
	defer telling.Stop()
	var came []outcome
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case e := <-events:
			if changed(known, e) {
				quiet.Reset(settled)
			}
		case <-quiet.C:
			next := about(again)
			var err error
			if came, err = a.decide(ctx, known); err != nil {
				a.notTaken(err.Error())
				next = about(lastPause)
			}
			telling.Reset(rand.N(spread))
			quiet.Reset(next)
		case <-telling.C:
			a.tellAll(ctx, known, came)
			came = nil
		}
	}
}

// changed takes an event up, and says whether it is news of a policy, and not only of what
// some node has told about it.
func changed(known map[string]clusterPolicy, e watched[clusterPolicy]) bool {
	name := e.Object.Metadata.Name
	if e.Type == deleted {
		delete(known, name)
		return true
	}
	was, there := known[name]
	known[name] = e.Object
	return !there || was.Metadata.Generation != e.Object.Metadata.Generation
}

// outcome is what came of a policy on this node.
type outcome struct {
	name       string
	generation int64
	hash       string
	reason     string // where there is a problem
	problem    error
}

// tellAll tells what came of policies that are still the same.
func (a *agent) tellAll(ctx context.Context, known map[string]clusterPolicy, came []outcome) {
	for _, o := range came {
		if one, ok := known[o.name]; ok && one.Metadata.Generation == o.generation {
			a.tell(ctx, one, o.hash, o.reason, o.problem)
		}
	}
}

// decide takes the policy that is for this node, and gives what is to be told of it. It
// fails where the API server does not say which that is.
func (a *agent) decide(ctx context.Context, known map[string]clusterPolicy) ([]outcome, error) {
	var found node
	if err := a.API.get(ctx, "/api/v1/nodes/"+a.Node, &found); err != nil {
		return nil, err
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
		return nil, nil
	case 1:
		return []outcome{a.decideOne(ctx, mine[0])}, nil
	}
	message := "the policies " + strings.Join(names, ", ") + " are all for node " + a.Node + ": give them nodeSelectors that exclude each other, or delete all but one; the policy in force stays"
	a.notTaken(message)
	var came []outcome
	for _, one := range mine {
		came = append(came, outcome{one.Metadata.Name, one.Metadata.Generation, "", "Conflict", errors.New(message)})
	}
	return came, nil
}

// decideOne takes the one policy that is for this node.
func (a *agent) decideOne(ctx context.Context, one clusterPolicy) outcome {
	o := outcome{name: one.Metadata.Name, generation: one.Metadata.Generation, reason: "Invalid"}
	_, o.problem = one.nodes()
	var p Policy
	if o.problem == nil {
		p, o.problem = a.render(ctx, one.Spec)
	}
	if o.problem == nil {
		var parsed *policy.Policy
		if parsed, o.problem = policy.Parse(p.Content); o.problem == nil {
			o.hash, o.reason = parsed.Hash, notInForce
			o.problem = a.take(ctx, one.Metadata.Name, p)
		}
	}
	if o.problem != nil && o.hash == "" {
		a.notTaken(fmt.Sprintf("CountersignPolicy %s: %s", one.Metadata.Name, o.problem))
	}
	return o
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
