package policy

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// scopeVectors are shared with the Python side.
type scopeVectors struct {
	Normalise []struct{ Normalised string }
	Match     []struct {
		Scopes     []string
		Repository string
		Scope      string // "" for none
	}
}

func readScopeVectors(t *testing.T) scopeVectors {
	t.Helper()
	data, err := os.ReadFile("../../../shared/vectors/scopes.json")
	if err != nil {
		t.Fatal(err)
	}
	var v scopeVectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Match) < 10 || len(v.Normalise) < 10 {
		t.Fatal("too few vectors")
	}
	return v
}

func TestMatchAgreesWithSharedVectors(t *testing.T) {
	for _, v := range readScopeVectors(t).Match {
		p := &Policy{scopes: map[string]Rule{}}
		for _, scope := range v.Scopes {
			p.scopes[scope] = Rule{Kind: Accept}
		}
		scope, _, ok := p.Match(v.Repository)
		if scope != v.Scope || ok != (v.Scope != "") {
			t.Errorf("%q in %q: got %q, %v, want %q", v.Repository, v.Scopes, scope, ok, v.Scope)
		}
	}
}

func TestScopesNormalisedByTheRendererAreGood(t *testing.T) {
	for _, v := range readScopeVectors(t).Normalise {
		if v.Normalised == "" {
			continue
		}
		if err := reference.CheckScope(v.Normalised); err != nil {
			t.Errorf("%q: %v", v.Normalised, err)
		}
	}
}

func readKeyFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// document builds a policy from its parts, so that each test differs from a good
// policy in one of them.
type parts map[string]any

func good(t *testing.T) parts {
	return parts{
		"version": Version,
		"roots":   parts{"team-key": parts{"publicKey": parts{"keys": []string{readKeyFile(t, "p256.pub")}}}},
		"scopes": parts{
			"registry.example/app":     parts{"anyOf": []string{"team-key"}},
			"registry.example/scratch": parts{"accept": true},
			"gcr.io":                   parts{"reject": true},
		},
		"pinned":  []string{"registry.k8s.io/pause@" + digestA},
		"revoked": parts{"keys": []string{}, "certificates": []string{}, "digests": []string{digestB}},
	}
}

func encode(t *testing.T, doc any) []byte {
	t.Helper()
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseReadsAGoodPolicy(t *testing.T) {
	p, err := Parse(encode(t, good(t)))
	if err != nil {
		t.Fatal(err)
	}
	root, ok := p.roots["team-key"]
	// openssl pkey -pubin -in testdata/p256.pub -outform DER | sha256sum
	const fingerprint = "sha256:85f4905c47f2824cffec70eb7e52be22061f2fe5351aaf3d88ec709a0895b3a2"
	if !ok || len(root.PublicKey.Keys) != 1 || root.PublicKey.Keys[0].Fingerprint != fingerprint {
		t.Errorf("root: %+v", root)
	}
	if _, rule, _ := p.Match("registry.example/app/web"); rule.String() != "anyOf(team-key)" {
		t.Errorf("rule %s", rule)
	}
	if pin, ok := p.Pinned("", digestA); !ok || pin != "registry.k8s.io/pause@"+digestA {
		t.Errorf("pin %q", pin)
	}
	if _, ok := p.Pinned(digestB, ""); ok {
		t.Error("a digest that is not pinned is pinned")
	}
	if digest, ok := p.RevokedDigest("", digestB); !ok || digest != digestB {
		t.Errorf("revoked %q", digest)
	}
}

// dated gives a root with one key and the day since which it is in use.
func dated(t *testing.T, key, day string) parts {
	t.Helper()
	read, err := readKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return parts{"team-key": parts{"publicKey": parts{"keys": []string{key}, "since": parts{read.Fingerprint: day}}}}
}

func TestADayIsReadAndNotWanted(t *testing.T) {
	keys := []Key{{Fingerprint: digestA}, {Fingerprint: digestB}}
	if err := readSince("roots.x", map[string]string{digestB: "2026-11-01"}, keys); err != nil {
		t.Fatal(err)
	}
	if !keys[0].Since.IsZero() || keys[1].Since.Format(time.DateOnly) != "2026-11-01" {
		t.Errorf("got %v", keys)
	}
}

func TestParseRefuses(t *testing.T) {
	key := readKeyFile(t, "p256.pub")
	root := func(keys ...string) parts { return parts{"team-key": parts{"publicKey": parts{"keys": keys}}} }
	tests := []struct {
		name   string
		change func(parts)
		want   string // in the message
	}{
		{"no version", func(p parts) { delete(p, "version") }, `version ""`},
		{"another version", func(p parts) { p["version"] = "countersign.policy/v2" }, "countersign.policy/v2"},
		{"an unknown member", func(p parts) { p["default"] = "accept" }, "default"},
		{"a member in other case", func(p parts) { p["Pinned"] = []string{} }, "Pinned"},
		{"an unknown kind of root", func(p parts) { p["roots"] = parts{"x": parts{"keyless": parts{}}} }, "keyless"},
		{"a root of no kind", func(p parts) { p["roots"].(parts)["x"] = parts{} }, "roots.x"},
		{"a root without keys", func(p parts) { p["roots"] = root() }, "team-key.publicKey.keys"},
		{"a day for another key", func(p parts) {
			p["roots"] = parts{"team-key": parts{"publicKey": parts{"keys": []string{key}, "since": parts{digestA: "2026-11-01"}}}}
		}, "publicKey.since"},
		{"a day that is none", func(p parts) { p["roots"] = dated(t, key, "2026-13-01") }, "2026-13-01"},
		{"a bad root name", func(p parts) { p["roots"].(parts)["a b"] = root(key)["team-key"] }, "a b"},
		{"a key that is none", func(p parts) { p["roots"] = root("hello") }, "keys[0]"},
		{"two keys in one text", func(p parts) { p["roots"] = root(key + key) }, "more than one PEM block"},
		{"a private key", func(p parts) { p["roots"] = root(strings.ReplaceAll(key, "PUBLIC", "PRIVATE")) }, "PRIVATE KEY"},
		{"an RSA key that is too short", func(p parts) { p["roots"] = root(readKeyFile(t, "rsa1024.pub")) }, "1024 bits"},
		{"a curve that nobody signs with", func(p parts) { p["roots"] = root(readKeyFile(t, "p224.pub")) }, "P-224"},
		{"an X25519 key", func(p parts) { p["roots"] = root(readKeyFile(t, "x25519.pub")) }, "keys[0]"},
		{"a scope with a tag", func(p parts) { p["scopes"].(parts)["r.example/a:1"] = parts{"accept": true} }, "r.example/a:1"},
		{"a wildcard", func(p parts) { p["scopes"].(parts)["r.example/*"] = parts{"accept": true} }, "r.example/*"},
		{"a scope for all", func(p parts) { p["scopes"].(parts)[""] = parts{"accept": true} }, `scopes: ""`},
		{"a scope with a slash at its end", func(p parts) { p["scopes"].(parts)["r.example/"] = parts{"accept": true} }, "r.example/"},
		{"a short name", func(p parts) { p["scopes"].(parts)["busybox"] = parts{"accept": true} }, "busybox"},
		{"another name of Docker Hub", func(p parts) { p["scopes"].(parts)["index.docker.io/a/b"] = parts{"accept": true} }, "index.docker.io"},
		{"a scope without a rule", func(p parts) { p["scopes"].(parts)["r.example"] = parts{} }, "no single rule"},
		{"a scope with two rules", func(p parts) {
			p["scopes"].(parts)["r.example"] = parts{"accept": true, "anyOf": []string{"team-key"}}
		}, "no single rule"},
		{"accept: false beside a rule", func(p parts) {
			p["scopes"].(parts)["r.example"] = parts{"accept": false, "reject": true}
		}, "no single rule"},
		{"accept: false", func(p parts) { p["scopes"].(parts)["r.example"] = parts{"accept": false} }, "no single rule"},
		{"an empty anyOf", func(p parts) { p["scopes"].(parts)["r.example"] = parts{"anyOf": []string{}} }, "empty"},
		{"an empty allOf", func(p parts) { p["scopes"].(parts)["r.example"] = parts{"allOf": []string{}} }, "empty"},
		{"an unknown root", func(p parts) { p["scopes"].(parts)["r.example"] = parts{"anyOf": []string{"other"}} }, "other"},
		{"a root twice", func(p parts) {
			p["scopes"].(parts)["r.example"] = parts{"allOf": []string{"team-key", "team-key"}}
		}, "team-key"},
		{"a pin without a digest", func(p parts) { p["pinned"] = []string{"registry.k8s.io/pause:3.10"} }, "pinned[0]"},
		{"a pin with a tag", func(p parts) { p["pinned"] = []string{"r.example/pause:3@" + digestA} }, "pinned[0]"},
		{"a pin with a short digest", func(p parts) { p["pinned"] = []string{"r.example/pause@sha256:aa"} }, "pinned[0]"},
		{"a revoked key in another form", func(p parts) { p["revoked"].(parts)["keys"] = []string{"aabb"} }, "revoked.keys[0]"},
		{"a revoked digest in another form", func(p parts) { p["revoked"].(parts)["digests"] = []string{digestA + "0"} }, "revoked.digests[0]"},
		{"a revoked certificate in another form", func(p parts) { p["revoked"].(parts)["certificates"] = []string{""} }, "revoked.certificates[0]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			doc := good(t)
			test.change(doc)
			_, err := Parse(encode(t, doc))
			refuses(t, err, test.want)
		})
	}
}

func refuses(t *testing.T, err error, want string) {
	t.Helper()
	var refusal *code.Refusal
	if !errors.As(err, &refusal) || refusal.Code != code.PolicyInvalid || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want POLICY_INVALID with %q", err, want)
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

func TestParseRefusesBytesThatOthersMayReadOtherwise(t *testing.T) {
	text := string(encode(t, good(t)))
	for name, data := range map[string]string{
		"a repeated member": strings.Replace(text, `"version"`, `"pinned":[],"version"`, 1),
		"trailing data":     text + "{}",
		"a cut end":         text[:len(text)-1],
		"nothing":           "",
		"null":              "null",
		"a list":            "[]",
		"invalid UTF-8":     strings.Replace(text, "gcr.io", "gcr\xff.io", 1),
		"too many bytes":    text + strings.Repeat(" ", MaxSize),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(data))
			refuses(t, err, "POLICY_INVALID")
		})
	}
}

func TestKeysOfEveryKindAreRead(t *testing.T) {
	for _, name := range []string{"p256.pub", "p384.pub", "p521.pub", "rsa2048.pub", "ed25519.pub"} {
		if key, err := readKey(readKeyFile(t, name)); err != nil || reference.CheckDigest(key.Fingerprint) != nil {
			t.Errorf("%s: %v %q", name, err, key.Fingerprint)
		}
	}
}

func TestHashesFollowWhatTheyCover(t *testing.T) {
	first, err := Parse(encode(t, good(t)))
	if err != nil {
		t.Fatal(err)
	}
	doc := good(t)
	doc["scopes"].(parts)["quay.io"] = parts{"accept": true}
	scopes, err := Parse(encode(t, doc))
	if err != nil {
		t.Fatal(err)
	}
	if scopes.Hash == first.Hash || scopes.TrustHash != first.TrustHash {
		t.Error("another scope must change the hash, and leave the trust hash")
	}
	doc["revoked"].(parts)["keys"] = []string{digestA}
	revoked, err := Parse(encode(t, doc))
	if err != nil {
		t.Fatal(err)
	}
	if revoked.TrustHash == first.TrustHash || !revoked.RevokedKey(digestA) {
		t.Error("a revoked key must change the trust hash")
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	_, err := Load(path)
	refuses(t, err, path)
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(path)
	refuses(t, err, path)
	if err := os.WriteFile(path, encode(t, good(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Load(path); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":"countersign.policy/v1","roots":{},"scopes":{"gcr.io":{"reject":true}},"pinned":[],"revoked":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		var refusal *code.Refusal
		if err != nil && !errors.As(err, &refusal) {
			t.Errorf("not a refusal: %v", err)
		}
		if err == nil {
			p.Match("gcr.io/a/b")
		}
	})
}
