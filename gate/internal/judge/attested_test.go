package judge_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/attached"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

const (
	slsa = "https://slsa.dev/provenance/v1"
	bom  = "https://cyclonedx.org/bom"
	fits = `predicate.workflow == "release.yml"`
)

// attesting is an image that is signed as its scope asks, and one attestation of it. Each
// test changes one thing.
type attesting struct {
	signing
	form, kind string // of the statement
	predicate  any
	about      []string
	key        *testsign.Key // signs the attestation in place of a certificate
	asked      map[string]any
	rule       map[string]any
	unsigned   bool
	none       bool
}

func newAttesting(t *testing.T) *attesting {
	t.Helper()
	s := &attesting{signing: *newSigning(t), form: "v1", kind: slsa, predicate: map[string]any{"workflow": "release.yml", "items": []int{}}}
	s.about = []string{s.digest()}
	s.asked = map[string]any{"type": slsa, "by": []string{"release"}, "where": fits}
	s.rule = map[string]any{"anyOf": []string{"team-key"}, "attestations": []any{s.asked}}
	return s
}

func (s *attesting) statement(t *testing.T) []byte {
	if raw, ok := s.predicate.(json.RawMessage); ok {
		return raw
	}
	return testsign.StatementOf(t, s.form, s.kind, s.predicate, s.about...)
}

func (s *attesting) evidence(t *testing.T) evidence.Set {
	t.Helper()
	var set evidence.Set
	if !s.unsigned {
		set.Bundles = append(set.Bundles, testsign.Bundle(t, s.scene.key, s.digest()))
	}
	switch {
	case s.none:
	case s.key != nil:
		set.Bundles = append(set.Bundles, testsign.BundleOf(t, *s.key, s.statement(t)))
	default:
		set.Bundles = append(set.Bundles, testsign.CertifiedBundleOf(t, s.issuedBy.Issue(t, s.person).Content(t, s.statement(t)), s.proof))
	}
	return set
}

func (s *attesting) judgeAttested(t *testing.T) judge.Outcome {
	t.Helper()
	s.putSet(t, s.evidence(t))
	if s.root["trustedRoot"] == nil {
		s.root["trustedRoot"] = []any{s.listed.TrustedRoot(t)}
	}
	s.doc.Others = map[string]any{"release": map[string]any{"keyless": s.root}}
	s.doc.Scopes = map[string]any{repository: s.rule}
	return s.judge(t)
}

var attestedCases = []struct {
	name   string
	change func(*testing.T, *attesting)
	want   code.Code
	saying string
}{
	{"right", func(*testing.T, *attesting) {}, code.OK, ""},
	{"right, in the older form", func(_ *testing.T, s *attesting) { s.form = "v0.1" }, code.OK, ""},
	{"right, about several", func(_ *testing.T, s *attesting) { s.about = append([]string{testsign.Digest([]byte("x"))}, s.about...) }, code.OK, ""},
	{"right, by a key", func(_ *testing.T, s *attesting) { s.key, s.asked["by"] = &s.scene.key, []string{"team-key"} }, code.OK, ""},
	{"right, by either", func(_ *testing.T, s *attesting) { s.asked["by"] = []string{"team-key", "release"} }, code.OK, ""},
	{"right, without a condition", func(_ *testing.T, s *attesting) { delete(s.asked, "where") }, code.OK, ""},
	{"right, and young", func(_ *testing.T, s *attesting) { s.asked["maxAge"] = "1h" }, code.OK, ""},
	{"none", func(_ *testing.T, s *attesting) { s.none = true }, code.NoAttestation, "there is none"},
	{"another predicate", func(_ *testing.T, s *attesting) { s.kind = bom }, code.NoAttestation, "there is none, only of " + bom},
	{"a predicate that begins the same", func(_ *testing.T, s *attesting) { s.kind = slsa + "/x" }, code.NoAttestation, "only of " + slsa + "/x"},
	{"the signature's own", func(_ *testing.T, s *attesting) { s.kind = testsign.SignPredicate }, code.NoAttestation, "there is none"},
	{"another form", func(_ *testing.T, s *attesting) { s.form = "v2" }, code.NoAttestation, "Statement/v2"},
	{"by another workflow", func(_ *testing.T, s *attesting) {
		s.person.URI = strings.Replace(workflow, "release.yml", "test.yml", 1)
	},
		code.NoAttestation, "test.yml"},
	{"of another authority", func(_ *testing.T, s *attesting) { s.issuedBy = s.other }, code.NoAttestation, "UNTRUSTED_CHAIN"},
	{"by a key in place of a certificate", func(_ *testing.T, s *attesting) { s.key = &s.scene.key }, code.NoAttestation, "the root asks for a certificate"},
	{"by a key that nobody trusts", func(_ *testing.T, s *attesting) { s.key, s.asked["by"] = &s.scene.other, []string{"team-key"} },
		code.NoAttestation, "does not trust"},
	{"by a revoked key", func(_ *testing.T, s *attesting) {
		s.doc.Roots["old"], s.doc.Keys = []testsign.Key{s.scene.other}, []string{s.scene.other.Fingerprint}
		s.key, s.asked["by"] = &s.scene.other, []string{"old"}
	}, code.NoAttestation, "revoked key"},
	{"about another digest", func(_ *testing.T, s *attesting) { s.about = []string{testsign.Digest([]byte("x"))} }, code.NoAttestation, "a valid attestation for digest"},
	{"about nothing", func(_ *testing.T, s *attesting) { s.about = nil }, code.NoAttestation, "for no subject"},
	{"without a log entry", func(_ *testing.T, s *attesting) { s.proof = testsign.Proof{} }, code.NoTrustedTime, "no log entry"},
	{"a condition that is false", func(_ *testing.T, s *attesting) { s.predicate = map[string]any{"workflow": "test.yml"} }, code.NoAttestation, "the condition is false"},
	{"a condition that fails", func(_ *testing.T, s *attesting) { s.predicate = map[string]any{} }, code.NoAttestation, "the condition fails: no such key: workflow"},
	{"a condition that costs too much", func(_ *testing.T, s *attesting) {
		s.asked["where"] = "predicate.items.all(a, predicate.items.all(b, a == b))"
		s.predicate = map[string]any{"items": make([]int, 3000)}
	}, code.NoAttestation, "costs more than"},
	{"the same condition of less", func(_ *testing.T, s *attesting) {
		s.asked["where"] = "predicate.items.all(a, predicate.items.all(b, a == b))"
		s.predicate = map[string]any{"items": make([]int, 30)}
	}, code.OK, ""},
	{"more values than are read", func(_ *testing.T, s *attesting) { s.predicate = map[string]any{"items": make([]int, 40_000)} }, code.NoAttestation, "more than 32768 values"},
	{"a name that stands twice", func(t *testing.T, s *attesting) {
		s.predicate = json.RawMessage(strings.Replace(string(s.statement(t)), `"predicate":{`, `"predicate":{"workflow":"test.yml",`, 1))
	}, code.NoAttestation, "duplicate"},
	{"too old", func(t *testing.T, s *attesting) {
		s.asked["maxAge"] = "24h"
		s.proof.At = time.Now().Add(-25 * time.Hour)
		s.person.From, s.person.To = time.Now().Add(-26*time.Hour), time.Now().Add(-24*time.Hour)
		s.issuedBy = testsign.NewAuthorityOf(t, time.Now().Add(-30*time.Hour), time.Now().Add(time.Hour))
		s.listed = testsign.Listed{CA: s.issuedBy, CT: s.issuedBy, Log: s.authority}
	}, code.NoAttestation, "too old: it was made at"},
	{"no older than that", func(t *testing.T, s *attesting) {
		s.asked["maxAge"] = "26h"
		s.proof.At = time.Now().Add(-25 * time.Hour)
		s.person.From, s.person.To = time.Now().Add(-26*time.Hour), time.Now().Add(-24*time.Hour)
		s.issuedBy = testsign.NewAuthorityOf(t, time.Now().Add(-30*time.Hour), time.Now().Add(time.Hour))
		s.listed = testsign.Listed{CA: s.issuedBy, CT: s.issuedBy, Log: s.authority}
	}, code.OK, ""},
	{"of an unknown age", func(_ *testing.T, s *attesting) {
		s.key, s.asked["by"], s.asked["maxAge"] = &s.scene.key, []string{"team-key"}, "720h"
	}, code.NoTrustedTime, "no trusted time says how old"},
	{"an attestation and no signature", func(_ *testing.T, s *attesting) { s.unsigned = true }, code.Unsigned, "not a signature of the image"},
	{"an attestation by the signing key and no signature", func(_ *testing.T, s *attesting) {
		s.unsigned, s.key, s.asked["by"] = true, &s.scene.key, []string{"team-key"}
	}, code.Unsigned, "not a signature of the image"},
	{"an attestation that stands for the signature", func(_ *testing.T, s *attesting) {
		s.unsigned, s.rule["anyOf"], s.rule["signature"] = true, []string{"release"}, slsa
	}, code.OK, ""},
	{"one that does not stand for it", func(_ *testing.T, s *attesting) {
		s.unsigned, s.rule["anyOf"], s.rule["signature"] = true, []string{"release"}, bom
	}, code.Unsigned, "not a signature of the image"},
	{"one that would stand for it, for another digest", func(_ *testing.T, s *attesting) {
		s.unsigned, s.rule["anyOf"], s.rule["signature"] = true, []string{"release"}, slsa
		s.about = []string{testsign.Digest([]byte("x"))}
	}, code.OtherImage, "a valid attestation for digest"},
	{"one that would stand for it, by another workflow", func(_ *testing.T, s *attesting) {
		s.unsigned, s.rule["anyOf"], s.rule["signature"] = true, []string{"release"}, slsa
		s.person.URI = strings.Replace(workflow, "release.yml", "test.yml", 1)
	}, code.WrongIdentity, "test.yml"},
	{"two, of which one is missing", func(_ *testing.T, s *attesting) {
		s.rule["attestations"] = []any{s.asked, map[string]any{"type": bom, "by": []string{"release"}}}
	}, code.NoAttestation, "no attestation of type " + bom},
}

func TestAttestations(t *testing.T) {
	for _, c := range attestedCases {
		t.Run(c.name, func(t *testing.T) {
			s := newAttesting(t)
			c.change(t, s)
			o := s.judgeAttested(t)
			if c.want == code.OK {
				allowed(t, o, code.OK)
				return
			}
			refused(t, o, c.want, c.saying)
		})
	}
}

func TestOfSeveralAttestationsOneIsEnough(t *testing.T) {
	s := newAttesting(t)
	good := s.evidence(t)
	s.predicate = map[string]any{"workflow": "test.yml"}
	bad := s.evidence(t)
	set := evidence.Set{Bundles: append(bad.Bundles, good.Bundles...)}
	s.putSet(t, set)
	s.none, s.unsigned = true, true
	allowed(t, s.judgeAttested(t), code.OK)
}

func TestAVerdictEndsWithTheAgeOfItsAttestation(t *testing.T) {
	s := newAttesting(t)
	s.asked["maxAge"] = "2h"
	o := s.judgeAttested(t)
	allowed(t, o, code.OK)
	if left := time.Until(o.Expires); left < time.Hour || left > 2*time.Hour {
		t.Errorf("it ends in %v, expected two hours", left)
	}
	if len(o.Attestations) != 1 || !o.Attestations[0].OK || o.Attestations[0].Root != "release" || o.Attestations[0].Expires == nil {
		t.Errorf("%+v", o.Attestations)
	}
	if last := o.Steps[len(o.Steps)-1]; last.Name != "attestation "+slsa || last.Outcome != "found, by release" || !last.OK {
		t.Errorf("step %+v", last)
	}
	if o.Root != "team-key" {
		t.Errorf("root %q", o.Root)
	}
	s = newAttesting(t)
	if o = s.judgeAttested(t); !o.Expires.IsZero() {
		t.Errorf("without an age it ends at %v", o.Expires)
	}
}

func TestAnAttestationIsLookedForInTheRegistry(t *testing.T) {
	s := newAttesting(t)
	set := s.evidence(t)
	s.putSet(t, evidence.Set{Bundles: set.Bundles[:1]})
	s.none, s.unsigned = true, true
	s.registry.sets[s.digest()] = evidence.Set{Bundles: set.Bundles[1:]}
	o := s.judgeAttested(t)
	allowed(t, o, code.OK)
	if o.Source != string(evidence.FromRegistry) {
		t.Errorf("from %s", o.Source)
	}
	s.store.Flush()
	s.registry = nil
	if o = s.judge(t); !o.Allow || o.Source != string(evidence.FromStore) {
		t.Errorf("offline: %s from %s: %v", o.Code, o.Source, o.Details)
	}
}

func TestWithoutARegistryNobodyKnowsOfAttestations(t *testing.T) {
	s := newAttesting(t)
	s.none, s.registry = true, nil
	refused(t, s.judgeAttested(t), code.NoEvidenceOffline, "no registry was asked")
	s = newAttesting(t)
	s.none, s.registry.err = true, code.Refuse(code.RegistryError, "500", "", "")
	refused(t, s.judgeAttested(t), code.RegistryError, "500")
}

func TestFormatsOfARule(t *testing.T) {
	for _, c := range []struct {
		formats []string
		item    func(*attesting) any
		want    code.Code
	}{
		{[]string{"bundle"}, func(s *attesting) any { return testsign.Bundle(t, s.scene.key, s.digest()) }, code.OK},
		{[]string{"bundle"}, func(s *attesting) any { return testsign.Attachment(t, s.scene.key, repository, s.digest()) }, code.Unsigned},
		{[]string{"attachment"}, func(s *attesting) any { return testsign.Attachment(t, s.scene.key, repository, s.digest()) }, code.OK},
		{[]string{"attachment"}, func(s *attesting) any { return testsign.Bundle(t, s.scene.key, s.digest()) }, code.Unsigned},
		{[]string{"attachment", "bundle"}, func(s *attesting) any { return testsign.Attachment(t, s.scene.key, repository, s.digest()) }, code.OK},
	} {
		s := newAttesting(t)
		s.rule = map[string]any{"anyOf": []string{"team-key"}, "formats": c.formats}
		s.unsigned, s.none = true, true
		s.put(t, c.item(s))
		o := s.judgeAttested(t)
		if o.Code != c.want {
			t.Errorf("%v: %s, expected %s: %v", c.formats, o.Code, c.want, o.Details)
		}
		if c.want == code.Unsigned && !strings.Contains(strings.Join(o.Details, "\n"), "the rule reads signatures in the format "+c.formats[0]+" only") {
			t.Errorf("%v: %v", c.formats, o.Details)
		}
	}
}

func TestAnAttestationOfTheIndexCounts(t *testing.T) {
	for _, about := range []string{"index", "other"} {
		s := newAttesting(t)
		s.about = []string{testsign.Digest([]byte(about))}
		want := code.NoAttestation
		if about == "index" {
			s.about, want = []string{s.request.Index}, code.OK
		}
		s.putFor(t, s.index, testsign.CertifiedBundleOf(t, s.issuedBy.Issue(t, s.person).Content(t, s.statement(t)), s.proof))
		s.none = true
		if o := s.judgeAttested(t); o.Code != want {
			t.Errorf("about the %s: %s, expected %s: %v", about, o.Code, want, o.Details)
		}
	}
}

// What cosign 1 and 2 attach becomes a bundle when it is read, and is judged as one.
func TestAttestationsOfCosign2AreJudged(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*testing.T, *attesting, *evidence.Attachment)
		want   code.Code
		saying string
	}{
		{"right", func(*testing.T, *attesting, *evidence.Attachment) {}, code.OK, ""},
		{"by a key", func(t *testing.T, s *attesting, a *evidence.Attachment) {
			s.asked["by"] = []string{"team-key"}
			*a = testsign.Envelope(t, testsign.Signer{Key: s.scene.key}.Content(t, s.statement(t)), testsign.Proof{})
		}, code.OK, ""},
		{"by a stranger's key", func(t *testing.T, s *attesting, a *evidence.Attachment) {
			s.asked["by"] = []string{"team-key"}
			*a = testsign.Envelope(t, testsign.Signer{Key: s.scene.other}.Content(t, s.statement(t)), testsign.Proof{})
		}, code.NoAttestation, "BAD_SIGNATURE"},
		{"with the log's promise gone", func(_ *testing.T, _ *attesting, a *evidence.Attachment) {
			delete(a.Annotations, "dev.sigstore.cosign/bundle")
		}, code.NoTrustedTime, "no log entry"},
		{"of another payload", func(t *testing.T, s *attesting, a *evidence.Attachment) {
			content := s.issuedBy.Issue(t, s.person).Content(t, s.statement(t))
			s.predicate = map[string]any{"workflow": "release.yml", "more": true}
			content.Signed = s.statement(t)
			*a = testsign.Envelope(t, content, s.proof)
		}, code.NoAttestation, "TAMPERED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newAttesting(t)
			a := testsign.Envelope(t, s.issuedBy.Issue(t, s.person).Content(t, s.statement(t)), s.proof)
			c.change(t, s, &a)
			document, err := attached.Bundle(a.Payload, a.Annotations)
			if err != nil {
				t.Fatal(err)
			}
			s.put(t, evidence.Bundle{JSON: document})
			s.none = true
			if o := s.judgeAttested(t); c.want == code.OK {
				allowed(t, o, code.OK)
			} else {
				refused(t, o, c.want, c.saying)
			}
		})
	}
}
