package policy_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
)

// parseRoot parses a policy with one root.
func parseRoot(t *testing.T, root any, revoked ...any) (*policy.Policy, error) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"version": policy.Version, "roots": map[string]any{"r": root},
		"scopes":  map[string]any{"registry.example": map[string]any{"anyOf": []string{"r"}}},
		"revoked": map[string]any{"certificates": append([]any{}, revoked...)}})
	if err != nil {
		t.Fatal(err)
	}
	return policy.Parse(data)
}

func invalidSaying(t *testing.T, err error, saying string) {
	t.Helper()
	var refusal *code.Refusal
	if !errors.As(err, &refusal) || refusal.Code != code.PolicyInvalid {
		t.Fatalf("got %v, want %s", err, code.PolicyInvalid)
	}
	if !strings.Contains(refusal.Found, saying) || strings.Contains(refusal.Found, "\n") {
		t.Errorf("%q does not say %q in one line", refusal.Found, saying)
	}
}

func TestSubjects(t *testing.T) {
	const release = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/"
	uri := func(value string) policy.Name { return policy.Name{Kind: policy.URI, Value: value} }
	email := func(value string) policy.Name { return policy.Name{Kind: policy.Email, Value: value} }
	tests := []struct {
		subject string
		name    policy.Name
		want    bool
	}{
		{release + "v1", uri(release + "v1"), true},
		{release + "v1", uri(release + "v10"), false},
		{release + "v1", email(release + "v1"), false},
		{release + "*", uri(release + "v1"), true},
		{release + "*", uri(release), true},
		{release + "*", uri(release + "v1/x"), false},
		{release + "**", uri(release + "v1/x"), true},
		{release + "*", uri("https://evil.example/?" + release + "v1"), false},
		{release + "*", uri(strings.Replace(release, ".yml", "xyml", 1) + "v1"), false},
		{release + "v*.0", uri(release + "v1.0"), true},
		{release + "v*.0", uri(release + "v1.0\n"), false},
		{"https://github.com/acme/**", uri("https://github.com/acme/app/x"), true},
		{"https://github.com/acme/**", uri("https://github.com/acme-evil/app/x"), false},
		{"*@acme.example", email("dev@acme.example"), true},
		{"*@acme.example", email("dev@evil.acme.example"), false},
		{"*@acme.example", uri("mailto:dev@acme.example"), false},
		{"dev@acme.example", email("Dev@acme.example"), false},
		{"ci!acme.example", policy.Name{Kind: policy.Other, Value: "ci!acme.example"}, true},
	}
	trusted := testsign.NewAuthority(t).TrustedRoot(t)
	for _, test := range tests {
		p, err := parseRoot(t, map[string]any{"keyless": map[string]any{"issuer": "https://i", "subject": test.subject, "trustedRoot": []any{trusted}}})
		if err != nil {
			t.Errorf("%s: %v", test.subject, err)
			continue
		}
		if got := p.Roots()[0].Keyless.Subject.Matches(test.name); got != test.want {
			t.Errorf("%s, %v: got %v", test.subject, test.name, got)
		}
	}
}

// The subjects are shared with the Python side.
func TestAnybodyCannotBeWritten(t *testing.T) {
	var vectors struct{ Taken, Refused []string }
	readVectors(t, "subjects.json", &vectors)
	if len(vectors.Taken) < 10 || len(vectors.Refused) < 20 {
		t.Fatal("too few vectors")
	}
	trusted := testsign.NewAuthority(t).TrustedRoot(t)
	parse := func(subject string) error {
		_, err := parseRoot(t, map[string]any{"keyless": map[string]any{"issuer": "https://i", "subject": subject, "trustedRoot": []any{trusted}}})
		return err
	}
	for _, subject := range vectors.Refused {
		err := parse(subject)
		if err == nil {
			t.Errorf("%q is taken", subject)
			continue
		}
		invalidSaying(t, err, "roots.r.keyless.subject")
	}
	for _, subject := range vectors.Taken {
		if err := parse(subject); err != nil {
			t.Errorf("%q: %v", subject, err)
		}
	}
}

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("../../../shared/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// What the Python side renders of roots by certificate is a policy.
func TestRenderedCertificatesAreRead(t *testing.T) {
	data, err := os.ReadFile("../../../shared/vectors/rendered-certificates.json")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range p.Roots() {
		switch root.Name {
		case "release":
			if k := root.Keyless; k == nil || len(k.Authorities) != 2 || k.Claims["ref"] == "" {
				t.Errorf("got %+v", k)
			}
		case "corp":
			if k := root.PKI; k == nil || len(k.Roots) != 1 || len(k.Intermediates) != 1 || k.Name.Kind != policy.Email {
				t.Errorf("got %+v", k)
			}
		case "countersign-canary": // which every rendered policy has
		default:
			t.Errorf("root %q", root.Name)
		}
	}
}

func TestKeylessRootsThatAreNone(t *testing.T) {
	a := testsign.NewAuthority(t)
	tests := []struct {
		name   string
		change func(map[string]any)
		saying string
	}{
		{"no issuer", func(r map[string]any) { delete(r, "issuer") }, "keyless.issuer"},
		{"an issuer with a wildcard", func(r map[string]any) { r["issuer"] = "https://*" }, "keyless.issuer"},
		{"an unknown member", func(r map[string]any) { r["regexp"] = "x" }, "unknown"},
		{"an unknown claim", func(r map[string]any) { r["claims"] = map[string]string{"owner": "acme"} }, `"owner"`},
		{"an empty claim", func(r map[string]any) { r["claims"] = map[string]string{"ref": ""} }, `"ref"`},
		{"no trusted root", func(r map[string]any) { r["trustedRoot"] = []any{} }, "trustedRoot: empty"},
		{"a trusted root of another type", func(r map[string]any) { r["trustedRoot"] = []any{map[string]any{"mediaType": "x"}} }, "media type"},
		{"a trusted root with a member that nobody knows", func(r map[string]any) { r["trustedRoot"] = []any{map[string]any{"x": 1}} }, "trustedRoot[0]"},
		{"a trusted root without an authority", func(r map[string]any) { r["trustedRoot"] = []any{testsign.Listed{Log: a}.TrustedRoot(t)} }, "no certificate authority"},
		{"no source of time", func(r map[string]any) { r["trustedRoot"] = []any{testsign.Listed{CA: a}.TrustedRoot(t)} }, "0 logs and timestamp authorities"},
		{"an SCT of no log", func(r map[string]any) {
			r["trustedRoot"], r["require"] = []any{testsign.Listed{CA: a, Log: a}.TrustedRoot(t)}, map[string]int{"sct": 1}
		}, "require.sct is 1"},
		{"more logs than there are", func(r map[string]any) { r["require"] = map[string]int{"log": 2} }, "require.log is 2"},
		{"a negative number", func(r map[string]any) { r["require"] = map[string]int{"time": -1} }, "require.time is -1"},
		{"right", func(r map[string]any) { r["require"] = map[string]int{"time": 2, "sct": 0} }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := map[string]any{"issuer": "https://i", "subject": "dev@acme.example", "trustedRoot": []any{a.TrustedRoot(t)}}
			test.change(root)
			p, err := parseRoot(t, map[string]any{"keyless": root})
			if test.saying != "" {
				invalidSaying(t, err, test.saying)
			} else if err != nil || p.Roots()[0].Keyless.Authorities[0].Require != (policy.Require{SCT: 0, Log: 1, Time: 2}) {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func TestPKIRootsThatAreNone(t *testing.T) {
	a, other := testsign.NewAuthority(t), testsign.NewAuthority(t)
	leaf := testsign.CertificatePEM(a.Issue(t, testsign.Person{Email: "x@acme.example"}).Certificate)
	tests := []struct {
		name   string
		change func(map[string]any)
		saying string
	}{
		{"no root", func(r map[string]any) { r["roots"] = []string{} }, "pki.roots: empty"},
		{"a signer's certificate as root", func(r map[string]any) { r["roots"] = []string{leaf} }, "not the certificate of an authority"},
		{"a key as root", func(r map[string]any) { r["roots"] = []string{testsign.NewKey(t).PEM} }, "not a PEM block CERTIFICATE"},
		{"no name", func(r map[string]any) { delete(r, "email") }, "0 names"},
		{"two names", func(r map[string]any) { r["dns"] = "acme.example" }, "2 names"},
		{"a wildcard", func(r map[string]any) { r["email"] = "*@acme.example" }, `"*@acme.example"`},
		{"a list of somebody else", func(r map[string]any) { r["crls"] = []string{other.CRL(t, time.Now().Add(time.Hour))} }, "crls[0]"},
		{"a list that is none", func(r map[string]any) { r["crls"] = []string{leaf} }, "X509 CRL"},
		{"a signer as timestamp authority", func(r map[string]any) { r["timestampRoots"] = []string{leaf} }, "timestampRoots[0]"},
		{"right", func(r map[string]any) {
			r["crls"], r["timestampRoots"] = []string{a.CRL(t, time.Now().Add(time.Hour))}, []string{a.TimestampPEM()}
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := map[string]any{"roots": []string{testsign.CertificatePEM(a.Root)}, "intermediates": []string{testsign.CertificatePEM(a.Intermediate)},
				"email": "x@acme.example"}
			test.change(root)
			p, err := parseRoot(t, map[string]any{"pki": root})
			if test.saying != "" {
				invalidSaying(t, err, test.saying)
			} else if err != nil || len(p.Roots()[0].PKI.CRLs) != 1 || len(p.Roots()[0].PKI.Timestamps) != 1 {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func TestOneKindOfRoot(t *testing.T) {
	a := testsign.NewAuthority(t)
	corp := map[string]any{"roots": []string{testsign.CertificatePEM(a.Root)}, "email": "x@acme.example"}
	_, err := parseRoot(t, map[string]any{"pki": corp, "publicKey": map[string]any{"keys": []string{testsign.NewKey(t).PEM}}})
	invalidSaying(t, err, "2 kinds")
	if _, err := parseRoot(t, map[string]any{"pki": corp}); err != nil {
		t.Error(err)
	}
}

func TestRevokedCertificatesThatAreNone(t *testing.T) {
	a := testsign.NewAuthority(t)
	corp := map[string]any{"pki": map[string]any{"roots": []string{testsign.CertificatePEM(a.Root)}, "email": "x@acme.example"}}
	for _, bad := range []any{"x", 1, map[string]any{"issuer": "CN=x"}, map[string]any{"issuer": "CN=x", "serial": "AB"},
		map[string]any{"issuer": "CN=x", "serial": "01"}, map[string]any{"issuer": "CN=x", "serial": "1", "x": 1}} {
		_, err := parseRoot(t, corp, bad)
		invalidSaying(t, err, "revoked.certificates[0]")
	}
	p, err := parseRoot(t, corp, testsign.Digest(a.Root.Raw))
	if err != nil || !p.RevokedCertificate(a.Root) || p.RevokedCertificate(a.Intermediate) {
		t.Errorf("got %v", err)
	}
}

// A change of whom a root trusts is a change of trust: what is remembered ends.
func TestTrustHashCoversCertificates(t *testing.T) {
	a := testsign.NewAuthority(t)
	hashes := map[string]bool{}
	for _, email := range []string{"x@acme.example", "y@acme.example"} {
		p, err := parseRoot(t, map[string]any{"pki": map[string]any{"roots": []string{testsign.CertificatePEM(a.Root)}, "email": email}})
		if err != nil {
			t.Fatal(err)
		}
		hashes[p.TrustHash] = true
	}
	if len(hashes) != 2 {
		t.Error("two roots have one hash")
	}
}
