package containerspolicy

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"countersign/gate/internal/policy"
)

// vector is a policy of testdata, and what the engine is to be given for it.
type vector struct {
	Name       string
	Policy     json.RawMessage
	Strict     map[string][]map[string]any
	Registries map[string]any
}

// wanted gives the scopes in a form. A lenient engine asks for no signature but that of
// the canary, which nobody can make.
func (v vector) wanted(form Form) map[string][]map[string]any {
	found := maps.Clone(v.Strict)
	for scope, rules := range found {
		if form.Lenient && rules[0]["type"] == bySignature && scope != policy.CanaryRegistry {
			found[scope] = []map[string]any{{"type": "insecureAcceptAnything"}}
		}
	}
	return found
}

func vectors(t *testing.T) []vector {
	t.Helper()
	var found struct{ Policies []vector }
	content, err := os.ReadFile("testdata/policies.json")
	if err == nil {
		err = json.Unmarshal(content, &found)
	}
	if err != nil || len(found.Policies) == 0 {
		t.Fatalf("%v, %d policies", err, len(found.Policies))
	}
	return found.Policies
}

func parsed(t *testing.T, document []byte) *policy.Policy {
	t.Helper()
	p, err := policy.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func scopesOf(t *testing.T, p *policy.Policy, form Form) (map[string][]map[string]any, Rendered) {
	t.Helper()
	rendered, err := Render(p, form)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Default    []map[string]any
		Transports map[string]map[string][]map[string]any
	}
	if err := json.Unmarshal(rendered.Policy, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Default) != 1 || document.Default[0]["type"] != "reject" || len(document.Transports) != 1 {
		t.Fatalf("got the default %v, transports %v", document.Default, document.Transports)
	}
	return document.Transports["docker"], rendered
}

// plain gives a value in which PEM is the DER of its blocks: how its lines are broken is
// nobody's business.
func plain(t *testing.T, value any) any {
	switch v := value.(type) {
	case map[string]any:
		found := map[string]any{}
		for key, inner := range v {
			if text, ok := inner.(string); ok && strings.HasSuffix(key, "Data") {
				found[key] = blocks(t, text)
				continue
			}
			found[key] = plain(t, inner)
		}
		return found
	case []any:
		found := []any{}
		for _, inner := range v {
			if text, ok := inner.(string); ok {
				found = append(found, any(blocks(t, text)))
				continue
			}
			found = append(found, plain(t, inner))
		}
		return found
	}
	return value
}

func blocks(t *testing.T, text string) string {
	rest, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for block := (*pem.Block)(nil); len(rest) > 0; {
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatalf("not PEM: %q", rest)
		}
		found = append(found, block.Type+" "+base64.StdEncoding.EncodeToString(block.Bytes))
	}
	return strings.Join(found, "\n")
}

func TestAPolicyHasTheFormThatTheEngineReads(t *testing.T) {
	for _, v := range vectors(t) {
		for name, form := range map[string]Form{"strict": {Tags: []string{}}, "lenient": {Lenient: true, Tags: []string{}}} {
			t.Run(v.Name+"/"+name, func(t *testing.T) {
				got, rendered := scopesOf(t, parsed(t, v.Policy), form)
				wanted := v.wanted(form)
				for scope := range wanted {
					if len(got[scope]) != len(wanted[scope]) {
						t.Fatalf("%s: got %v, expected %v", scope, got[scope], wanted[scope])
					}
					for i := range wanted[scope] {
						a, b := plain(t, got[scope][i]), plain(t, wanted[scope][i])
						if !slices.ContainsFunc(got[scope], func(one map[string]any) bool { return reflect.DeepEqual(plain(t, one), b) }) {
							t.Errorf("%s: got %v, expected %v", scope, a, b)
						}
					}
				}
				if len(got) != len(wanted) {
					t.Errorf("got %d scopes, expected %d", len(got), len(wanted))
				}
				var registries map[string]any
				if err := yaml.Unmarshal(rendered.RegistriesD, &registries); err != nil || !reflect.DeepEqual(registries, v.Registries) {
					t.Errorf("got %v (%v), expected %v", registries, err, v.Registries)
				}
			})
		}
	}
}

const (
	one = "sha256:" + "1111111111111111111111111111111111111111111111111111111111111111"
	two = "sha256:" + "2222222222222222222222222222222222222222222222222222222222222222"
)

func TestATagOfAPinIsAcceptedAndNothingElseOfItsRepository(t *testing.T) {
	p := parsed(t, []byte(`{"version":"countersign.policy/v1","roots":{},"scopes":{},"pinned":["r.example/pinned@`+one+`"],"revoked":{"keys":[],"certificates":[],"digests":[]}}`))
	for name, c := range map[string]struct {
		tags   []string
		wanted string
	}{
		"not known": {nil, "r.example/pinned r.example/pinned@" + one},
		"none":      {[]string{}, "r.example/pinned@" + one},
		"one":       {[]string{"r.example/pinned:v1"}, "r.example/pinned:v1 r.example/pinned@" + one},
	} {
		scopes, _ := scopesOf(t, p, Form{Tags: c.tags})
		delete(scopes, policy.CanaryRegistry)
		delete(scopes, left)
		if got := strings.Join(slices.Sorted(maps.Keys(scopes)), " "); got != c.wanted {
			t.Errorf("%s: got %s, expected %s", name, got, c.wanted)
		}
		for scope, rules := range scopes {
			if len(rules) != 1 || rules[0]["type"] != "insecureAcceptAnything" {
				t.Errorf("%s: %s: got %v", name, scope, rules)
			}
		}
	}
}

// A kubelet pulls a pinned image by its tag: what the engine can't tell is left to the
// gate, but for what a scope or a revocation says.
func TestARepositoryOfAPinIsLeftToTheGateWhereNoScopeSpeaksOfIt(t *testing.T) {
	for name, c := range map[string]struct{ scopes, revoked, wanted string }{
		"no scope":        {`{}`, `[]`, "insecureAcceptAnything"},
		"another's scope": {`{"r.example/pinned/below": {"reject": true}}`, `[]`, "insecureAcceptAnything"},
		"a scope":         {`{"r.example": {"reject": true}}`, `[]`, ""},
		"revoked":         {`{}`, `["` + one + `"]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := parsed(t, []byte(`{"version":"countersign.policy/v1","roots":{},"scopes":`+c.scopes+`,"pinned":["r.example/pinned@`+one+`"],"revoked":{"keys":[],"certificates":[],"digests":`+c.revoked+`}}`))
			scopes, _ := scopesOf(t, p, Form{})
			got := ""
			if found := scopes["r.example/pinned"]; found != nil {
				got, _ = found[0]["type"].(string)
			}
			if got != c.wanted {
				t.Errorf("got %q, expected %q", got, c.wanted)
			}
		})
	}
}

func TestPinsOfOneDigestInTwoRepositoriesBothCount(t *testing.T) {
	p := parsed(t, []byte(`{"version":"countersign.policy/v1","roots":{},"scopes":{},"pinned":["a.example/x@`+one+`","b.example/x@`+one+`","b.example/x@`+two+`"],"revoked":{"keys":[],"certificates":[],"digests":[]}}`))
	scopes, _ := scopesOf(t, p, Form{})
	for _, pin := range []string{"a.example/x@" + one, "b.example/x@" + one, "b.example/x@" + two} {
		if len(scopes[pin]) != 1 || scopes[pin][0]["type"] != "insecureAcceptAnything" {
			t.Errorf("%s: got %v", pin, scopes[pin])
		}
	}
}

func TestTheEngineAsksForSignaturesWhereItCanJudgeThem(t *testing.T) {
	for _, v := range vectors(t) {
		p := parsed(t, v.Policy)
		for _, scope := range p.Scopes() {
			if got, wanted := Asks(p, scope), v.Strict[scope][0]["type"] == bySignature; got != wanted {
				t.Errorf("%s: %s: got %v, expected %v", v.Name, scope, got, wanted)
			}
		}
		if Asks(p, "") {
			t.Error("it asks for signatures in no scope")
		}
	}
}
