package judge_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

const spdx = "https://spdx.dev/Document"

// codes gives what each root says of a sighting: "root CODE".
func codes(s judge.Sighting) string {
	var all []string
	for _, o := range s.Roots {
		all = append(all, o.Root+" "+string(o.Code))
	}
	return strings.Join(all, ", ")
}

func inspect(t *testing.T, s *signing, set evidence.Set) []judge.Sighting {
	t.Helper()
	found, err := judge.Inspect(t.Context(), s.doc.Parse(t), set)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// newInspection has two roots: a key, and an identity.
func newInspection(t *testing.T) *signing {
	t.Helper()
	s := newSigning(t)
	s.root["trustedRoot"] = []any{s.listed.TrustedRoot(t)}
	s.doc.Others = map[string]any{"release": map[string]any{"keyless": s.root}}
	return s
}

func TestInspectAsksEachRootOfEachSignature(t *testing.T) {
	s := newInspection(t)
	s.proof.TSA = s.authority
	signer := s.authority.Issue(t, s.person)
	other := testsign.Bundle(t, s.scene.other, s.digest())
	set := setOf(s.manifest,
		testsign.Attachment(t, s.key, repository, s.digest()),
		testsign.CertifiedAttachment(t, signer, repository, s.digest(), s.proof),
		testsign.Bundle(t, s.key, s.digest()),
		testsign.CertifiedBundle(t, signer, s.digest(), s.proof),
		other,
		testsign.Bundle(t, s.key, testsign.Digest(s.index)),
		testsign.BundleOf(t, s.key, testsign.StatementOf(t, "v1", spdx, map[string]any{}, s.digest())),
		evidence.Bundle{JSON: []byte("x")},
	)
	found := inspect(t, s, set)
	want := []string{
		"release BAD_SIGNATURE, team-key OK",
		"release OK, team-key BAD_SIGNATURE",
		"release BAD_SIGNATURE, team-key OK",
		"release OK, team-key BAD_SIGNATURE",
		"release BAD_SIGNATURE, team-key BAD_SIGNATURE",
		"release BAD_SIGNATURE, team-key OTHER_IMAGE",
		"release BAD_SIGNATURE, team-key OK",
		"release MALFORMED, team-key MALFORMED",
	}
	if len(found) != len(want) {
		t.Fatalf("%d sightings, want %d", len(found), len(want))
	}
	for i, one := range found {
		if got := codes(one); got != want[i] {
			t.Errorf("%d %s: %s, want %s (%+v)", i, one.Format, got, want[i], one.Roots)
		}
	}
	if a := found[6]; !a.Attestation || a.PredicateType != spdx || found[2].Attestation {
		t.Errorf("the attestation: %+v", a)
	}
	if found[7].Problem == "" || found[6].Problem != "" {
		t.Errorf("problems: %q, %q", found[7].Problem, found[6].Problem)
	}
}

func TestInspectSaysWhoAndWhen(t *testing.T) {
	s := newInspection(t)
	s.proof.TSA = s.authority
	signer := s.authority.Issue(t, s.person)
	found := inspect(t, s, setOf(s.manifest,
		testsign.CertifiedAttachment(t, signer, repository, s.digest(), s.proof),
		testsign.CertifiedBundle(t, signer, s.digest(), s.proof),
		testsign.Bundle(t, s.key, s.digest())))
	for _, one := range found[:2] {
		if len(one.Signer.Names) != 1 || one.Signer.Names[0] != workflow || one.Signer.Issuer != githubIssuer || one.Signer.NotAfter == nil {
			t.Errorf("%s: signer %+v", one.Format, one.Signer)
		}
		if len(one.Times) != 2 || one.Times[0].Source != "log" || one.Times[0].LogIndex == nil || one.Times[0].At == nil || one.Times[1].Source != "timestamp" || one.Times[1].At == nil {
			t.Errorf("%s: times %+v", one.Format, one.Times)
		}
	}
	if found[0].Repository != repository || found[1].Repository != "" {
		t.Errorf("repositories %q, %q", found[0].Repository, found[1].Repository)
	}
	hint, err := hex.DecodeString(strings.TrimPrefix(found[2].Signer.Key, "sha256:"))
	if err != nil || !strings.Contains(string(setOf(s.manifest, testsign.Bundle(t, s.key, s.digest())).Bundles[0].JSON), base64.StdEncoding.EncodeToString(hint)) {
		t.Errorf("key %q, %v", found[2].Signer.Key, err)
	}
}

func TestInspectWithoutAPolicyAndOutOfTime(t *testing.T) {
	s := newInspection(t)
	set := setOf(s.manifest, testsign.Bundle(t, s.key, s.digest()))
	found, err := judge.Inspect(t.Context(), nil, set)
	if err != nil || len(found) != 1 || len(found[0].Roots) != 0 || found[0].PredicateType == "" {
		t.Errorf("%+v, %v", found, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	found, err = judge.Inspect(ended, s.doc.Parse(t), set)
	if err != nil || codes(found[0]) != "release TIMEOUT, team-key TIMEOUT" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestInspectReadsLargeAttestations(t *testing.T) {
	s := newInspection(t)
	large := testsign.BundleOf(t, s.key, testsign.StatementOf(t, "v1", spdx,
		map[string]any{"text": strings.Repeat("x", 1<<20)}, s.digest()))
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, large.JSON, 0o600); err != nil {
		t.Fatal(err)
	}
	set := setOf(s.manifest)
	set.Large = []evidence.Large{{Sum: large.ID(), Size: int64(len(large.JSON)), Path: path}}
	if found := inspect(t, s, set); codes(found[0]) != "release BAD_SIGNATURE, team-key OK" || !found[0].Attestation {
		t.Errorf("%+v", found)
	}
	set.Large[0].Sum = strings.Repeat("0", 64)
	if found := inspect(t, s, set); found[0].Problem == "" || len(found[0].Roots) != 0 {
		t.Errorf("another file than the one that was named: %+v", found)
	}
}

func TestInspectNotation(t *testing.T) {
	s := newInspection(t)
	signer := s.authority.Issue(t, testsign.Person{Change: testsign.SubjectOf("release")})
	envelope := testsign.Notary{By: signer, Chain: []*x509.Certificate{s.authority.Intermediate, s.authority.Root},
		MediaType: "application/jose+json", Manifest: s.manifest, Scheme: signature.SigningSchemeX509, At: time.Now()}.Envelope(t)
	found := inspect(t, s, setOf(s.manifest, envelope))
	if len(found) != 1 || found[0].Format != "notation" || codes(found[0]) != "release UNSIGNED, team-key UNSIGNED" || len(found[0].Subjects) != 1 || found[0].Subjects[0] != s.digest() {
		t.Errorf("%+v", found)
	}
	if found[0].Roots[0].Code != code.Unsigned || found[0].Roots[0].Found == "" {
		t.Errorf("%+v", found[0].Roots)
	}
}
