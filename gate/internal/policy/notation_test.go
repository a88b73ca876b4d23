package policy_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
)

// The identities are shared with the Python side.
func TestIdentities(t *testing.T) {
	var vectors struct{ Taken, Refused []string }
	readVectors(t, "identities.json", &vectors)
	if len(vectors.Taken) < 5 || len(vectors.Refused) < 15 {
		t.Fatal("too few vectors")
	}
	root := testsign.CertificatePEM(testsign.NewAuthority(t).Root)
	parse := func(identities ...string) error {
		_, err := parseRoot(t, map[string]any{"notation": map[string]any{"roots": []string{root}, "identities": identities}})
		return err
	}
	for _, identity := range vectors.Taken {
		if err := parse(identity); err != nil {
			t.Errorf("%q: %v", identity, err)
		}
	}
	for _, identity := range vectors.Refused {
		if err := parse(identity); err == nil {
			t.Errorf("%q is taken", identity)
		} else {
			invalidSaying(t, err, "roots.r.notation.identities[0]")
		}
	}
	invalidSaying(t, parse("x509.subject: C=FI, O=Acme", "x509.subject: C=FI, O=Acme, CN=release"), "identities[1]")
	invalidSaying(t, parse(), "identities: empty")
}

func TestAnIdentityMatchesAWholeSubject(t *testing.T) {
	identity, err := policy.ParseIdentity(`x509.subject: C=FI, O=Acme\, Inc., CN=release`)
	if err != nil {
		t.Fatal(err)
	}
	subject := func(change func(*pkix.Name)) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject = pkix.Name{Country: []string{"FI"}, Organization: []string{"Acme, Inc."}, CommonName: "release"}
			change(&c.Subject)
		}
	}
	a := testsign.NewAuthority(t)
	for _, test := range []struct {
		name   string
		change func(*pkix.Name)
		want   bool
	}{
		{"the same", func(*pkix.Name) {}, true},
		{"more", func(n *pkix.Name) { n.OrganizationalUnit = []string{"Builds"} }, true},
		{"less", func(n *pkix.Name) { n.CommonName = "" }, false},
		{"another value", func(n *pkix.Name) { n.CommonName = "release2" }, false},
		{"another case", func(n *pkix.Name) { n.CommonName = "Release" }, false},
		{"a name in a name", func(n *pkix.Name) { n.CommonName, n.OrganizationalUnit = "x", []string{"x, CN=release"} }, false},
		{"one of two", func(n *pkix.Name) { n.Organization = []string{"Acme, Inc.", "Evil"} }, false},
	} {
		signer := a.Issue(t, testsign.Person{Change: subject(test.change), WithoutSCT: true})
		if got := identity.Matches(signer.Certificate); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

func TestNotationRootsThatAreNone(t *testing.T) {
	a := testsign.NewAuthority(t)
	leaf := testsign.CertificatePEM(a.Issue(t, testsign.Person{Email: "x@acme.example"}).Certificate)
	block, _ := pem.Decode([]byte(a.CRL(t, time.Now().Add(time.Hour))))
	tests := []struct {
		name   string
		change func(map[string]any)
		saying string
	}{
		{"no root", func(r map[string]any) { r["roots"] = []string{} }, "notation.roots: empty"},
		{"a signer's certificate as root", func(r map[string]any) { r["roots"] = []string{leaf} }, "neither the certificate of an authority nor self-signed"},
		{"a key as root", func(r map[string]any) { r["roots"] = []string{testsign.NewKey(t).PEM} }, "not a PEM block CERTIFICATE"},
		{"a signer as timestamp authority", func(r map[string]any) { r["timestampRoots"] = []string{leaf} }, "timestampRoots[0]"},
		{"a laxer level", func(r map[string]any) { r["level"] = "permissive" }, "unknown"},
		{"a list that is none", func(r map[string]any) { r["crls"] = []string{leaf} }, "X509 CRL"},
		{"two lists in one text", func(r map[string]any) {
			r["crls"] = []string{string(pem.EncodeToMemory(block)) + string(pem.EncodeToMemory(block))}
		}, "not one PEM block"},
		{"a part of a list", func(r map[string]any) { r["crls"] = []string{a.PartialCRL(t)} }, "a part of a list"},
		{"signing authorities alone", func(r map[string]any) { r["signingAuthorities"] = r["roots"]; delete(r, "roots") }, ""},
		{"right", func(r map[string]any) {
			r["crls"], r["timestampRoots"] = []string{string(pem.EncodeToMemory(block))}, []string{testsign.CertificatePEM(testsign.NewStamper(t, nil).Root)}
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := map[string]any{"roots": []string{testsign.CertificatePEM(a.Root)}, "identities": []string{"x509.subject: C=FI, O=Acme"}}
			test.change(root)
			p, err := parseRoot(t, map[string]any{"notation": root})
			if test.saying != "" {
				invalidSaying(t, err, test.saying)
			} else if err != nil || p.Roots()[0].Notation == nil {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func TestTheNotaryProjectAttestsNothing(t *testing.T) {
	roots := map[string]any{
		"notary": map[string]any{"notation": map[string]any{"roots": []string{testsign.CertificatePEM(testsign.NewAuthority(t).Root)},
			"identities": []string{"x509.subject: C=FI, O=Acme, CN=release"}}},
		"team": map[string]any{"publicKey": map[string]any{"keys": []string{testsign.NewKey(t).PEM}}},
	}
	for _, by := range []string{"notary", "team"} {
		data, err := json.Marshal(map[string]any{"version": policy.Version, "roots": roots, "scopes": map[string]any{"registry.example": map[string]any{
			"anyOf": []string{"notary"}, "attestations": []any{map[string]any{"type": "https://slsa.dev/provenance/v1", "by": []string{by}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = policy.Parse(data); by == "notary" {
			invalidSaying(t, err, "attestations[0].by")
		} else if err != nil {
			t.Error(err)
		}
	}
}
