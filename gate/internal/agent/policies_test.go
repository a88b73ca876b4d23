package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/policy"
)

// rendered is a policy as the tasks render it, and the CountersignPolicy of the same: a
// test of theirs keeps both.
func rendered(t *testing.T) (content []byte, one clusterPolicy) {
	t.Helper()
	content, err := os.ReadFile("testdata/policy.json")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("testdata/countersignpolicy.json")
	if err == nil {
		err = json.Unmarshal(manifest, &one)
	}
	if err != nil {
		t.Fatal(err)
	}
	return content, one
}

// objects are what an API server has beside its policies.
func objects(t *testing.T, found map[string]any) *agent {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		object, ok := found[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		answer(t, w, object)
	}))
	t.Cleanup(server.Close)
	api := &API{URL: server.URL, Token: func() (string, error) { return "secret", nil }, HTTP: server.Client()}
	return newAgent(api, &stub{})
}

func TestAPolicyOfTheClusterHasTheBytesThatTheTasksRender(t *testing.T) {
	wanted, one := rendered(t)
	got, err := objects(t, nil).render(context.Background(), one.Spec)
	if err != nil || string(got.Content) != string(wanted) {
		t.Fatalf("%v, got\n%s\nexpected\n%s", err, got.Content, wanted)
	}
}

func TestKeysAndTrustedRootsByReference(t *testing.T) {
	wanted, one := rendered(t)
	roots := one.Spec["roots"].(map[string]any)
	keys := roots["team"].(map[string]any)["publicKey"].(map[string]any)
	trusted := roots["ci"].(map[string]any)["keyless"].(map[string]any)
	pem, root := keys["keys"].([]any)[0].(string), trusted["trustedRoot"].([]any)[0]
	asText, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	delete(keys, "keys")
	delete(trusted, "trustedRoot")
	trusted["trustedRootFrom"] = []any{map[string]any{"configMap": "trust", "key": "root.json"}}
	a := objects(t, map[string]any{
		"/api/v1/namespaces/ns/configmaps/trust": map[string]any{"data": map[string]any{"root.json": string(asText)}},
		"/api/v1/namespaces/ns/secrets/keys":     map[string]any{"data": map[string]any{"cosign.pub": []byte(pem)}},
	})
	for name, row := range map[string]struct {
		reference map[string]any
		says      string
	}{
		"there":          {map[string]any{"secret": "keys", "key": "cosign.pub"}, ""},
		"another key":    {map[string]any{"secret": "keys", "key": "other.pub"}, "has no other.pub"},
		"another secret": {map[string]any{"secret": "other", "key": "cosign.pub"}, "404"},
		"neither":        {map[string]any{"key": "cosign.pub"}, "expected a configMap or a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			keys["keysFrom"] = []any{row.reference}
			got, err := a.render(context.Background(), one.Spec)
			if row.says != "" {
				if err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "keysFrom") {
					t.Errorf("got %v, expected %q", err, row.says)
				}
				return
			}
			if err != nil || string(got.Content) != string(wanted) {
				t.Errorf("%v: %s", err, got.Content)
			}
		})
	}
}

func TestWhatIsReservedIsNotGiven(t *testing.T) {
	for name, spec := range map[string]map[string]any{
		"the root":         {"roots": map[string]any{policy.CanaryRoot: map[string]any{}}, "scopes": map[string]any{}},
		"the scope":        {"scopes": map[string]any{"127.67.83.71:871": map[string]any{"accept": true}}},
		"a scope below it": {"scopes": map[string]any{"127.67.83.71:871/countersign": map[string]any{"accept": true}}},
	} {
		if _, err := objects(t, nil).render(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "reserved") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := objects(t, nil).render(context.Background(), map[string]any{"scopes": map[string]any{"127.67.83.7:871": map[string]any{"accept": true}}}); err != nil {
		t.Errorf("twin: %v", err)
	}
}

// What is of another type is not left out: the policy would be looser, or for other nodes.
func TestWhatIsOfAnotherTypeIsNotLeftOut(t *testing.T) {
	key := map[string]any{"data": map[string]string{"k": "text"}}
	at := map[string]any{"/api/v1/namespaces/countersign/configmaps/good": key, "/api/v1/namespaces/countersign/configmaps/../secrets/other": key}
	from := func(name any) map[string]any { return map[string]any{"configMap": name, "key": "k"} }
	for name, row := range map[string]struct {
		spec map[string]any
		says string // "" where it is rendered
	}{
		"revoked":                        {map[string]any{"revoked": map[string]any{"keys": []any{}}}, ""},
		"revoked, null":                  {map[string]any{"revoked": nil}, ""},
		"revoked, a list":                {map[string]any{"revoked": []any{"sha256:1"}}, "revoked is of another type"},
		"revoked, text":                  {map[string]any{"revoked": "sha256:1"}, "revoked is of another type"},
		"scopes, a list":                 {map[string]any{"scopes": []any{}}, "scopes is of another type"},
		"roots, a number":                {map[string]any{"roots": 7.0}, "roots is of another type"},
		"signatures, text":               {map[string]any{"signatures": "MEUC"}, "signatures is of another type"},
		"a signature, a number":          {map[string]any{"signatures": []any{7.0}}, "one is not text"},
		"keys beside keysFrom":           {map[string]any{"revoked": map[string]any{"keys": []any{"a"}, "keysFrom": []any{from("good")}}}, ""},
		"keys, text, beside keysFrom":    {map[string]any{"revoked": map[string]any{"keys": "a", "keysFrom": []any{from("good")}}}, "keys is of another type"},
		"keysFrom by a way elsewhere":    {map[string]any{"revoked": map[string]any{"keysFrom": []any{from("../secrets/other")}}}, "is not the name of an object"},
		"keysFrom by a name with a mark": {map[string]any{"revoked": map[string]any{"keysFrom": []any{from("good?x")}}}, "is not the name of an object"},
		"keysFrom in upper case":         {map[string]any{"revoked": map[string]any{"keysFrom": []any{from("Good")}}}, "is not the name of an object"},
		"keysFrom by a number":           {map[string]any{"revoked": map[string]any{"keysFrom": []any{from(7.0)}}}, "expected a configMap or a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			a := objects(t, at)
			a.Namespace = "countersign"
			_, err := a.render(context.Background(), row.spec)
			if (err == nil) != (row.says == "") || err != nil && !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// shelf is an API server with policies and one node, that keeps what is told of them.
type shelf struct {
	mu     sync.Mutex
	status map[string]policyStatus
	events []string
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.URL.Path == "/api/v1/nodes/n1":
		fmt.Fprint(w, `{"metadata":{"name":"n1","labels":{"pool":"a"}}}`)
	case r.Method == http.MethodPatch && strings.HasPrefix(r.URL.Path, policies+"/"):
		var body struct{ Status policyStatus }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.status[strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, policies+"/"), "/status")] = body.Status
		fmt.Fprint(w, "{}")
	case r.Method == http.MethodPost:
		var body struct{ Reason string }
		if json.NewDecoder(r.Body).Decode(&body) == nil {
			s.events = append(s.events, body.Reason)
		}
		fmt.Fprint(w, "{}")
	default:
		http.NotFound(w, r)
	}
}

func TestOnlyOneValidPolicyForANodeIsTaken(t *testing.T) {
	named := func(name string, generation int64, spec map[string]any) clusterPolicy {
		var p clusterPolicy
		p.Metadata.Name, p.Metadata.Generation, p.Spec = name, generation, spec
		return p
	}
	valid := func() map[string]any {
		return map[string]any{"scopes": map[string]any{"r.test": map[string]any{"accept": true}}}
	}
	elsewhere := valid()
	elsewhere[selector] = map[string]any{"pool": "b"}
	nowhere, anywhere := valid(), valid()
	nowhere[selector] = "pool=b"
	anywhere[selector] = map[string]any{"pool": 7.0}
	invalid := map[string]any{"scopes": map[string]any{"r.test": map[string]any{"anyOf": []any{"nobody"}}}}
	for name, row := range map[string]struct {
		known   []clusterPolicy
		refuses error
		taken   bool
		reason  string
		says    string
	}{
		"one":                            {known: []clusterPolicy{named("p", 1, valid())}, taken: true, reason: "Taken"},
		"one, and one for others":        {known: []clusterPolicy{named("p", 1, valid()), named("q", 1, elsewhere)}, taken: true, reason: "Taken"},
		"two for this node":              {known: []clusterPolicy{named("p", 1, valid()), named("q", 1, valid())}, reason: "Conflict", says: "p, q are all for node n1"},
		"none":                           {known: []clusterPolicy{named("q", 1, elsewhere)}, says: "no CountersignPolicy is for this node"},
		"one that is not valid":          {known: []clusterPolicy{named("p", 1, invalid)}, reason: "Invalid", says: "POLICY_INVALID"},
		"one for whichever nodes":        {known: []clusterPolicy{named("p", 1, nowhere)}, reason: "Invalid", says: "nodeSelector is of another type"},
		"one for nodes with a number":    {known: []clusterPolicy{named("p", 1, anywhere)}, reason: "Invalid", says: "pool is of another type"},
		"one that the node's gate won't": {known: []clusterPolicy{named("p", 1, valid())}, refuses: fmt.Errorf("POLICY_INVALID: serial 1 is older than 2"), taken: true, reason: "NotInForce", says: "older than 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{status: map[string]policyStatus{}}
			server := httptest.NewServer(s)
			defer server.Close()
			host := &stub{refuses: row.refuses}
			a := newAgent(&API{URL: server.URL, Token: func() (string, error) { return "x", nil }, HTTP: server.Client()}, host)
			known := map[string]clusterPolicy{}
			for _, one := range row.known {
				known[one.Metadata.Name] = one
			}
			came, err := a.decide(context.Background(), known)
			if err != nil {
				t.Fatal(err)
			}
			a.tellAll(context.Background(), known, came)
			if taken := len(host.policies) == 1; taken != row.taken {
				t.Errorf("brought %d policies", len(host.policies))
			}
			if !strings.Contains(a.broken, row.says) || (row.says == "") != (a.broken == "") {
				t.Errorf("got %q, expected %q", a.broken, row.says)
			}
			if row.reason == "" {
				return
			}
			said := s.status["p"]
			if len(said.Conditions) != 1 || said.Conditions[0].Reason != row.reason || (said.Conditions[0].Status == "True") != (row.reason == "Taken") || said.ObservedGeneration != 1 {
				t.Errorf("got %+v", said)
			}
			if (row.reason == "Taken") != (len(s.events) == 0) {
				t.Errorf("events %q", s.events)
			}
			if _, told := s.status["q"]; told != (row.reason == "Conflict") {
				t.Errorf("q: %v", s.status)
			}
		})
	}
}

// What some node tells of a policy is no reason for all to look at it again.
func TestOnlyNewsOfAPolicyIsDecidedUpon(t *testing.T) {
	of := func(kind string, generation int64, hash string) watched[clusterPolicy] {
		var p clusterPolicy
		p.Metadata.Name, p.Metadata.Generation, p.Status.Hash = "p", generation, hash
		return watched[clusterPolicy]{Type: kind, Object: p}
	}
	known := map[string]clusterPolicy{}
	for i, row := range []struct {
		event watched[clusterPolicy]
		news  bool
	}{
		{of("ADDED", 1, ""), true},
		{of("MODIFIED", 1, "sha256:1"), false},
		{of("MODIFIED", 2, "sha256:1"), true},
		{of(deleted, 2, ""), true},
		{of("ADDED", 2, ""), true},
	} {
		if news := changed(known, row.event); news != row.news {
			t.Errorf("event %d: news %v", i, news)
		}
		if _, there := known["p"]; there == (row.event.Type == deleted) || known["p"].Status.Hash != row.event.Object.Status.Hash {
			t.Errorf("event %d: %+v is known", i, known)
		}
	}
}

// By the time that this node tells it, the policy may be another one, or told by others.
func TestWhatCameOfAPolicyIsToldOfThatOneAndOnce(t *testing.T) {
	for name, row := range map[string]struct {
		generation int64
		told       bool
		wanted     bool
	}{
		"as it was":       {1, false, true},
		"another by now":  {2, false, false},
		"told by another": {1, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{status: map[string]policyStatus{}}
			server := httptest.NewServer(s)
			defer server.Close()
			a := newAgent(&API{URL: server.URL, Token: func() (string, error) { return "x", nil }, HTTP: server.Client()}, &stub{})
			var p clusterPolicy
			p.Metadata.Name, p.Metadata.Generation = "p", row.generation
			if row.told {
				p.Status = policyStatus{1, "sha256:1", []condition{{Reason: "Taken", ObservedGeneration: 1}}}
			}
			a.tellAll(context.Background(), map[string]clusterPolicy{"p": p}, []outcome{{name: "p", generation: 1, hash: "sha256:1"}})
			if _, told := s.status["p"]; told != row.wanted {
				t.Errorf("told: %v", told)
			}
		})
	}
}

// An API server that does not answer is no reason to go on without the policy for long.
func TestWhereTheNodeCannotBeAskedForNothingIsDecided(t *testing.T) {
	for name, node := range map[string]any{"there": map[string]any{}, "not to be had": nil} {
		t.Run(name, func(t *testing.T) {
			found := map[string]any{}
			if node != nil {
				found["/api/v1/nodes/n1"] = node
			}
			_, err := objects(t, found).decide(context.Background(), map[string]clusterPolicy{})
			if (err != nil) != (node == nil) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestACRDOfAnotherVersionChangesNothingAndIsTold(t *testing.T) {
	c, api := newCluster(t) // which has no policies at all
	_ = c
	node := &stub{}
	a := newAgent(api, node)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go a.followPolicies(ctx)
	for deadline := time.Now().Add(5 * time.Second); ; pause(ctx, 5*time.Millisecond) {
		a.mu.Lock()
		said := a.broken
		a.mu.Unlock()
		if strings.Contains(said, "missing or of another version") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %q", said)
		}
	}
	if len(node.policies) != 0 {
		t.Errorf("brought %q", node.policies)
	}
}
