package doctor

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
)

const day = 24 * time.Hour

// policyWith gives a policy with one root of trust.
func policyWith(t *testing.T, kind string, root any) string {
	t.Helper()
	document, err := json.Marshal(map[string]any{
		"version": "countersign.policy/v1", "roots": map[string]any{"signer": map[string]any{kind: root}}, "scopes": map[string]any{},
		"pinned": []string{"registry.k8s.io/pause@" + pause}, "revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}

func keyless(trusted ...json.RawMessage) map[string]any {
	return map[string]any{"issuer": "https://issuer.example", "subject": "me@acme.example", "trustedRoot": trusted}
}

func pki(a *testsign.Authority, crls ...string) map[string]any {
	found := map[string]any{"roots": []string{testsign.CertificatePEM(a.Root)}, "intermediates": []string{testsign.CertificatePEM(a.Intermediate)}, "email": "me@acme.example"}
	if len(crls) > 0 {
		found["crls"] = crls
	}
	return found
}

// withEnd gives a trusted root in which the first of a kind ends.
func withEnd(t *testing.T, trusted json.RawMessage, kind string, at time.Time) json.RawMessage {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(trusted, &document); err != nil {
		t.Fatal(err)
	}
	entry := document[kind].([]any)[0].(map[string]any)
	if key, ok := entry["publicKey"].(map[string]any); ok {
		entry = key
	}
	entry["validFor"].(map[string]any)["end"] = at.UTC().Format(time.RFC3339)
	changed, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestWhatEndsWithinAMonthIsWarnedOf(t *testing.T) {
	soon, later, past := time.Now().Add(29*day), time.Now().Add(31*day), time.Now().Add(-day)
	from := time.Now().Add(-2 * day)
	a := testsign.NewAuthority(t)
	trusted := testsign.Listed{CA: a, CT: a, Log: a}.TrustedRoot(t)
	ofTSA := testsign.Listed{CA: a, TSA: a}.TrustedRoot(t)
	for name, root := range map[string]struct {
		kind string
		root any
		says string
	}{
		"log":                 {"keyless", keyless(withEnd(t, trusted, "tlogs", soon)), "the last log of its trusted root is ends"},
		"log, later":          {"keyless", keyless(withEnd(t, trusted, "tlogs", later)), ""},
		"log, past":           {"keyless", keyless(withEnd(t, trusted, "tlogs", past)), "the last log of its trusted root is ended"},
		"log of certificates": {"keyless", keyless(withEnd(t, trusted, "ctlogs", soon)), "the last log of certificates of its"},
		"authority":           {"keyless", keyless(withEnd(t, trusted, "certificateAuthorities", soon)), "the last authority of its"},
		"timestamps":          {"keyless", keyless(withEnd(t, ofTSA, "timestampAuthorities", soon)), "the last timestamp authority of its"},
		"intermediate":        {"pki", pki(testsign.NewAuthorityOf(t, from, soon)), "the certificate of CN=intermediate of the test"},
		"intermediate, later": {"pki", pki(testsign.NewAuthorityOf(t, from, later)), ""},
		"CRL":                 {"pki", pki(a, a.CRL(t, soon)), "the list of revoked certificates by CN=intermediate of the test"},
		"CRL, later":          {"pki", pki(a, a.CRL(t, later)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false)
			w.write("etc/policy.json", policyWith(t, root.kind, root.root), 0o644)
			p, err := policy.Load(w.path("etc/policy.json"))
			if err != nil {
				t.Fatal(err)
			}
			w.ping.Policy = p.Hash
			report := w.look()
			if !report.OK {
				t.Errorf("open: %q, unknown: %q: this node enforces", states(report, Open), states(report, Unknown))
			}
			warnings := states(report, Warning)
			if root.says == "" {
				if len(warnings) > 0 {
					t.Errorf("warned of %q", warnings)
				}
				return
			}
			if !slices.Equal(warnings, []string{"gate.expiry"}) {
				t.Fatalf("warned of %q", warnings)
			}
			for _, check := range report.Checks {
				if check.Name == "gate.expiry" && (len(check.Findings) != 1 || !strings.HasPrefix(check.Findings[0].String(), "roots.signer: "+root.says)) {
					t.Errorf("got %q", check.Findings)
				}
			}
		})
	}
}

func TestWhatIsInUseForMoreThanAYearIsWarnedOf(t *testing.T) {
	now := time.Now()
	a := testsign.NewAuthority(t)
	key := testsign.NewKey(t)
	used := func(ago time.Duration) map[string]any {
		return map[string]any{"keys": []string{key.PEM}, "since": map[string]string{key.Fingerprint: now.Add(-ago).UTC().Format(time.DateOnly)}}
	}
	for name, root := range map[string]struct {
		kind    string
		root    any
		revoked string
		says    string
	}{
		"key":                   {"publicKey", used(367 * day), "", "roots.signer: the key " + key.Fingerprint + " is in use since "},
		"key, younger":          {"publicKey", used(364 * day), "", ""},
		"key, revoked":          {"publicKey", used(367 * day), key.Fingerprint, ""},
		"key, nobody says when": {"publicKey", map[string]any{"keys": []string{key.PEM}}, "", ""},
		"CRL":                   {"pki", pki(a, a.CRLSince(t, now.Add(-367*day), now.Add(99*day))), "", "roots.signer: the list of revoked certificates by "},
		"CRL, younger":          {"pki", pki(a, a.CRLSince(t, now.Add(-364*day), now.Add(99*day))), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			document := policyWith(t, root.kind, root.root)
			if root.revoked != "" {
				document = strings.Replace(document, `"keys":[]`, `"keys":["`+root.revoked+`"]`, 1)
			}
			p, err := policy.Parse([]byte(document))
			if err != nil {
				t.Fatal(err)
			}
			found := endings(p, now)
			if root.says == "" && len(found) > 0 || root.says != "" && (len(found) != 1 || !strings.HasPrefix(found[0].String(), root.says)) {
				t.Errorf("got %q, expected %q", found, root.says)
			}
		})
	}
}

func TestAListOfWhatIsRevokedThatIsStaleIsWarnedOf(t *testing.T) {
	now := time.Now()
	for ago, says := range map[time.Duration]string{89 * day: "", 92 * day: "revoked.lists: acme is issued on "} {
		issued := now.Add(-ago).UTC().Format(time.DateOnly)
		found := endings(&policy.Policy{Lists: []policy.Revocations{{Name: "acme", Serial: 7, Issued: issued}}}, now)
		if says == "" && len(found) > 0 || says != "" && (len(found) != 1 || !strings.HasPrefix(found[0].String(), says+issued)) {
			t.Errorf("%s: got %q, expected %q", issued, found, says)
		}
	}
}

func TestALogThatEndedIsNotToldWhileAnotherGoesOn(t *testing.T) {
	a := testsign.NewAuthority(t)
	ended := withEnd(t, a.TrustedRoot(t), "tlogs", time.Now().Add(-day))
	var one, other map[string]any
	for document, into := range map[string]*map[string]any{string(ended): &one, string(testsign.NewAuthority(t).TrustedRoot(t)): &other} {
		if err := json.Unmarshal([]byte(document), into); err != nil {
			t.Fatal(err)
		}
	}
	one["timestampAuthorities"] = []any{}
	one["tlogs"] = append(one["tlogs"].([]any), other["tlogs"].([]any)...)
	both, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse([]byte(policyWith(t, "keyless", keyless(both))))
	if err != nil {
		t.Fatal(err)
	}
	if found := endings(p, time.Now()); len(found) != 0 {
		t.Errorf("got %q", found)
	}
}

func TestAPolicyThatCannotBeReadHasItsOwnCheck(t *testing.T) {
	w := newWorld(t, false)
	w.write("etc/policy.json", "{", 0o644)
	if report := w.look(); !slices.Contains(states(report, Skipped), "gate.expiry") {
		t.Errorf("skipped: %q", states(report, Skipped))
	}
}
