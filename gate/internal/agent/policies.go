package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/prove"
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

// The scope that every rendered policy reserves for the canary, as policy/canary.py has it
// (docs/adr/0019): a root whose private key nobody has.
const (
	canaryRoot = "countersign-canary"
	canaryKey  = "-----BEGIN PUBLIC KEY-----\n" +
		"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPjPW7Jtj7o4Jdfr871//TCnwB4T+\n" +
		"gI3frLaOTo7ETG/NJZzQPnPwPrBql5OdEyPzcIH4qCMWePK54jCMoCf+jA==\n" +
		"-----END PUBLIC KEY-----\n"
)

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
		if one := known[name]; one.nodes().of(found.Metadata.Labels) {
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
	p, err := a.render(ctx, one.Spec)
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

func (p clusterPolicy) nodes() Labels {
	found := Labels{}
	labels, _ := p.Spec[selector].(map[string]any)
	for name, value := range labels {
		found[name], _ = value.(string)
	}
	return found
}

// render gives the policy as `policy.render` writes it: the same bytes, so that one
// signature is good for both.
func (a *agent) render(ctx context.Context, spec map[string]any) (Policy, error) {
	resolved, err := a.resolve(ctx, spec)
	if err != nil {
		return Policy{}, err
	}
	document := resolved.(map[string]any)
	signed, _ := document[signatures].([]any)
	delete(document, signatures)
	delete(document, selector)
	document["version"] = policy.Version
	roots, scopes := tableOf(document, "roots"), tableOf(document, "scopes")
	if _, taken := roots[canaryRoot]; taken {
		return Policy{}, fmt.Errorf("the root %s is reserved", canaryRoot)
	}
	for scope := range scopes {
		if scope == prove.Registry || strings.HasPrefix(scope, prove.Registry+"/") {
			return Policy{}, fmt.Errorf("the scope %s is reserved", prove.Registry)
		}
	}
	roots[canaryRoot] = map[string]any{"publicKey": map[string]any{"keys": []any{canaryKey}}}
	scopes[prove.Registry] = map[string]any{"anyOf": []any{canaryRoot}}
	revoked := tableOf(document, "revoked")
	for _, list := range []string{"keys", "certificates", "digests"} {
		if revoked[list] == nil {
			revoked[list] = []any{}
		}
	}
	if document["pinned"] == nil {
		document["pinned"] = []any{}
	}
	content, err := canonical(document)
	if err != nil {
		return Policy{}, err
	}
	var lines []string
	for _, one := range signed {
		text, _ := one.(string)
		lines = append(lines, strings.TrimSpace(text)+"\n")
	}
	return Policy{content, []byte(strings.Join(lines, ""))}, nil
}

func tableOf(of map[string]any, name string) map[string]any {
	found, _ := of[name].(map[string]any)
	if found == nil {
		found = map[string]any{}
		of[name] = found
	}
	return found
}

// from ends the name of a list by reference: keysFrom adds to keys.
const from = "From"

// resolve gives a copy of a spec in which what lists name is there.
func (a *agent) resolve(ctx context.Context, value any) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		copied := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			list, isList := v[name].([]any)
			if base, ok := strings.CutSuffix(name, from); ok && isList {
				have, _ := copied[base].([]any) // sorts before
				for _, each := range list {
					text, err := a.named(ctx, each)
					if err != nil {
						return nil, fmt.Errorf("%s: %w", name, err)
					}
					have = append(have, text)
				}
				copied[base] = have
				continue
			}
			inner, err := a.resolve(ctx, v[name])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			copied[name] = inner
		}
		return copied, nil
	case []any:
		copied := make([]any, 0, len(v))
		for _, each := range v {
			inner, err := a.resolve(ctx, each)
			if err != nil {
				return nil, err
			}
			copied = append(copied, inner)
		}
		return copied, nil
	}
	return value, nil
}

// named reads what a reference names, in this agent's namespace. JSON, as trusted roots
// are, comes parsed.
func (a *agent) named(ctx context.Context, reference any) (any, error) {
	var wanted struct {
		ConfigMap, Secret string
		Key               string
	}
	content, err := json.Marshal(reference)
	if err == nil {
		err = json.Unmarshal(content, &wanted)
	}
	if err != nil || (wanted.ConfigMap == "") == (wanted.Secret == "") || wanted.Key == "" {
		return nil, errors.New("expected a configMap or a secret, and a key")
	}
	kind, name := "configmaps", wanted.ConfigMap
	var object struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if wanted.Secret != "" {
		kind, name = "secrets", wanted.Secret
	}
	if err := a.API.get(ctx, "/api/v1/namespaces/"+a.Namespace+"/"+kind+"/"+name, &object); err != nil {
		return nil, err
	}
	raw, ok := object.Data[wanted.Key]
	if !ok {
		return nil, fmt.Errorf("%s %s has no %s", kind, name, wanted.Key)
	}
	var text string
	if kind == "secrets" {
		var bytes []byte
		err = json.Unmarshal(raw, &bytes)
		text = string(bytes)
	} else {
		err = json.Unmarshal(raw, &text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, name, err)
	}
	var document map[string]any
	if json.Unmarshal([]byte(text), &document) == nil {
		return document, nil
	}
	return text, nil
}

// canonical gives JSON as Python's json.dumps(sort_keys=True, indent=2) does, with a
// newline at the end.
func canonical(document any) ([]byte, error) {
	var plain bytes.Buffer
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, r := range plain.String() {
		switch {
		case r < 0x7f:
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes(), nil
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
