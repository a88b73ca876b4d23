package condition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func input(t testing.TB, predicate string) Input {
	t.Helper()
	value, err := Decode([]byte(predicate), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		PredicateType: "https://slsa.dev/provenance/v1", Predicate: value, Repository: "registry.example/app", Digest: "sha256:aa",
		Subject: []map[string]any{{"name": "registry.example/app", "digest": map[string]any{"sha256": "aa"}}},
	}
}

func hold(t testing.TB, expression, predicate string) error {
	t.Helper()
	c, err := Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	return c.Holds(context.Background(), input(t, predicate))
}

func TestConditionsThatHold(t *testing.T) {
	for _, expression := range []string{
		`predicate.buildDefinition.externalParameters.workflow.repository == 'https://github.com/acme/app'`,
		`predicate.level >= 3 && predicate.level + 1 == 4`,
		`predicate.ratio > 0.5`,
		`!predicate.components.exists(c, c.name == 'log4j-core')`,
		`predicate.?missing.orValue('none') == 'none'`,
		`has(predicate.level) && !has(predicate.missing)`,
		`predicateType.startsWith('https://slsa.dev/')`,
		`subject.exists(s, s.name == image.repository && image.digest == 'sha256:' + s.digest.sha256)`,
		`predicate.components.map(c, c.name.lowerAscii()).exists(n, n.matches('^z'))`,
		`sets.contains(['a', 'zlib'], predicate.components.map(c, c.name))`,
		`predicate.yes`,
	} {
		if err := hold(t, expression, document); err != nil {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

const document = `{"buildDefinition": {"externalParameters": {"workflow": {"repository": "https://github.com/acme/app"}}},
	"level": 3, "ratio": 0.75, "yes": true, "components": [{"name": "zlib"}]}`

func TestConditionsThatDoNotHold(t *testing.T) {
	if err := hold(t, `predicate.level > 3`, document); !errors.Is(err, ErrFalse) {
		t.Errorf("false: %v", err)
	}
	large := `{"items": [` + strings.TrimSuffix(strings.Repeat("1,", 4000), ",") + `]}`
	for name, c := range map[string]struct{ expression, predicate, want string }{
		"a member that is not there": {`predicate.missing == 1`, document, "fails"},
		"types that do not go":       {`predicate.level > 'three'`, document, "fails"},
		"no boolean":                 {`predicate.level`, document, "not true or false"},
		"too costly":                 {`predicate.items.all(a, predicate.items.all(b, a <= b))`, large, "costs more than"},
		"too much text":              {`predicate.items.all(a, (predicate.text + predicate.text).size() > 0)`, fmt.Sprintf(`{"items": [%s1], "text": %q}`, strings.Repeat("1,", 4000), strings.Repeat("x", 1<<17)), "costs more than"},
		"too much pattern":           {`predicate.items.all(a, predicate.text.matches('(a|b)*c') || true)`, fmt.Sprintf(`{"items": [%s1], "text": %q}`, strings.Repeat("1,", 4000), strings.Repeat("a", 1<<17)), "costs more than"},
	} {
		err := hold(t, c.expression, c.predicate)
		if err == nil || errors.Is(err, ErrFalse) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q", name, err, c.want)
		}
	}
	small := strings.ReplaceAll(large, strings.Repeat("1,", 3900), "")
	if err := hold(t, `predicate.items.all(a, predicate.items.all(b, a <= b))`, small); err != nil {
		t.Errorf("the same of less: %v", err)
	}
}

func TestADeadlineEndsACondition(t *testing.T) {
	c, err := Compile(`predicate.items.all(a, a == 1)`)
	if err != nil {
		t.Fatal(err)
	}
	in := input(t, `{"items": [`+strings.Repeat("1,", 4000)+`1]}`)
	ctx, cancel := context.WithCancel(context.Background())
	if err := c.Holds(ctx, in); err != nil {
		t.Errorf("in time: %v", err)
	}
	cancel()
	if err := c.Holds(ctx, in); err == nil || errors.Is(err, ErrFalse) {
		t.Errorf("too late: %v", err)
	}
}

func TestExpressionsThatAreRefused(t *testing.T) {
	for expression, want := range map[string]string{
		"":                                    "empty",
		" \n":                                 "empty",
		"predicate.a ==":                      "line 1, column 15",
		"predicate.a == 1 &&\n  predicat.b":   "line 2, column 3",
		"nothing(predicate)":                  "undeclared reference to 'nothing'",
		"'text'":                              "type string",
		"predicateType == 3":                  "line 1, column 15",
		"predicate.a.replace('a', 'b') == ''": "replace",
		"predicate.a.join('b') == ''":         "join",
		strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500): "recursion",
		"'" + strings.Repeat("x", MaxSize) + "' == ''":               "size",
		"now() > timestamp('2026-01-01T00:00:00Z')":                  "undeclared",
	} {
		_, err := Compile(expression)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, expected %q", expression, err, want)
		}
	}
}

func TestDecode(t *testing.T) {
	for document, want := range map[string]string{
		`{"a": 1, "a": 2}`:                     "duplicate",
		`{"a": 1} {}`:                          "follows",
		`[` + strings.Repeat("1,", 100) + `1]`: "too many values",
		strings.Repeat("[", 100):               "nested",
		`{"a": 1e999}`:                         "range",
		"\"\xff\"":                             "UTF-8",
		`{"` + strings.Repeat("k", maxKey+1) + `": null}`: "name of",
		``:    "EOF",
		`{"a`: "unexpected",
	} {
		if _, err := Decode([]byte(document), 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, expected %q", document, err, want)
		}
	}
	got, err := Decode([]byte(`[1, 1.0, 9223372036854775808, null]`), 10)
	if err != nil || fmt.Sprintf("%T %T %T %T", got.([]any)[0], got.([]any)[1], got.([]any)[2], got.([]any)[3]) != "int64 float64 float64 <nil>" {
		t.Errorf("%v %v", got, err)
	}
}
