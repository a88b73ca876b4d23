package judge_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
)

func TestKeylessTampered(t *testing.T) {
	tests := []struct {
		name   string
		make   func(*testing.T, *signing, testsign.Signer) any
		want   code.Code
		saying string
	}{
		{"bundle: a statement that was changed", func(t *testing.T, s *signing, by testsign.Signer) any {
			c := by.Content(t, testsign.Statement(testsign.Digest([]byte("other")), testsign.SignPredicate))
			c.Signed = testsign.Statement(s.digest(), testsign.SignPredicate)
			return testsign.CertifiedBundleOf(t, c, s.proof)
		}, code.Tampered, "does not hold"},
		{"bundle: another certificate of the same identity", func(t *testing.T, s *signing, by testsign.Signer) any {
			c := by.Content(t, testsign.Statement(s.digest(), testsign.SignPredicate))
			c.By.Certificate = s.authority.Issue(t, s.person).Certificate
			return testsign.CertifiedBundleOf(t, c, s.proof)
		}, code.Tampered, "does not hold"},
		{"bundle: the entry of another signature", func(t *testing.T, s *signing, by testsign.Signer) any {
			other := by.Content(t, testsign.Statement(testsign.Digest([]byte("other")), testsign.SignPredicate))
			s.proof.Other = &other
			return testsign.CertifiedBundle(t, by, s.digest(), s.proof)
		}, code.Tampered, "of something else"},
		{"bundle: the entry of the same statement with another certificate", func(t *testing.T, s *signing, by testsign.Signer) any {
			other := s.authority.Issue(t, s.person).Content(t, testsign.Statement(s.digest(), testsign.SignPredicate))
			s.proof.Other = &other
			return testsign.CertifiedBundle(t, by, s.digest(), s.proof)
		}, code.Tampered, "of something else"},
		{"bundle: the entry of the same signature over another statement", func(t *testing.T, s *signing, by testsign.Signer) any {
			c := by.Content(t, testsign.Statement(s.digest(), testsign.SignPredicate))
			other := c
			other.Signed = testsign.Statement(testsign.Digest([]byte("other")), testsign.SignPredicate)
			s.proof.Other = &other
			return testsign.CertifiedBundleOf(t, c, s.proof)
		}, code.Tampered, "payload hash"},
		{"bundle: the timestamp of another signature", func(t *testing.T, s *signing, by testsign.Signer) any {
			other := by.Content(t, testsign.Statement(testsign.Digest([]byte("other")), testsign.SignPredicate))
			s.listed.Log = nil
			return testsign.CertifiedBundle(t, by, s.digest(), testsign.Proof{TSA: s.authority, Other: &other})
		}, code.NoTrustedTime, "no trusted timestamp"},
		{"bundle: another time in the entry", func(t *testing.T, s *signing, by testsign.Signer) any {
			s.proof.ChangeEntry = func(entry map[string]any) { entry["integratedTime"] = time.Now().Add(-time.Second * 30).Unix() }
			return testsign.CertifiedBundle(t, by, s.digest(), s.proof)
		}, code.Tampered, "does not hold"},
		{"bundle: a proof of inclusion of something else", func(t *testing.T, s *signing, by testsign.Signer) any {
			s.proof.ChangeEntry = func(entry map[string]any) {
				entry["inclusionProof"].(map[string]any)["rootHash"] = bytes.Repeat([]byte{1}, 32)
			}
			return testsign.CertifiedBundle(t, by, s.digest(), s.proof)
		}, code.Tampered, "does not hold"},
		{"bundle: an entry with no time that the log has signed", func(t *testing.T, s *signing, by testsign.Signer) any {
			s.proof.ChangeEntry = func(entry map[string]any) { delete(entry, "inclusionPromise") }
			return testsign.CertifiedBundle(t, by, s.digest(), s.proof)
		}, code.NoTrustedTime, "no time that a log has signed"},
		{"bundle: an SBOM by the right identity", func(t *testing.T, s *signing, by testsign.Signer) any {
			return testsign.CertifiedBundleOf(t, by.Content(t, testsign.Statement(s.digest(), "https://spdx.dev/Document")), s.proof)
		}, code.Unsigned, "is not a signature"},
		{"bundle: a key and no certificate", func(t *testing.T, s *signing, by testsign.Signer) any {
			return testsign.Bundle(t, by.Key, s.digest())
		}, code.BadSignature, "no certificate"},
		{"attachment: a payload that was changed", func(t *testing.T, s *signing, by testsign.Signer) any {
			a := testsign.CertifiedAttachment(t, by, repository, testsign.Digest([]byte("other")), s.proof)
			a.Payload = testsign.Payload(repository, s.digest())
			return a
		}, code.Tampered, "does not hold"},
		{"attachment: the entry of another payload", func(t *testing.T, s *signing, by testsign.Signer) any {
			other := by.SignedPayload(t, testsign.Payload(repository, testsign.Digest([]byte("other"))))
			s.proof.Other = &other
			return testsign.CertifiedAttachment(t, by, repository, s.digest(), s.proof)
		}, code.Tampered, "of something else"},
		{"attachment: another time in the entry", func(t *testing.T, s *signing, by testsign.Signer) any {
			s.proof.ChangeEntry = func(entry map[string]any) {
				entry["Payload"].(map[string]any)["integratedTime"] = time.Now().Add(-time.Second * 30).Unix()
			}
			return testsign.CertifiedAttachment(t, by, repository, s.digest(), s.proof)
		}, code.Tampered, "does not hold"},
		{"attachment: a member in the entry that nobody knows", func(t *testing.T, s *signing, by testsign.Signer) any {
			s.proof.ChangeEntry = func(entry map[string]any) { entry["Extra"] = 1 }
			return testsign.CertifiedAttachment(t, by, repository, s.digest(), s.proof)
		}, code.Malformed, "dev.sigstore.cosign/bundle"},
		{"attachment: of another repository", func(t *testing.T, s *signing, by testsign.Signer) any {
			return testsign.CertifiedAttachment(t, by, "registry.example/origin", s.digest(), s.proof)
		}, code.OtherImage, "registry.example/origin"},
		{"attachment: a key and no certificate", func(t *testing.T, s *signing, by testsign.Signer) any {
			return testsign.Attachment(t, by.Key, repository, s.digest())
		}, code.BadSignature, "no certificate"},
		{"attachment: a bare key where the certificate belongs", func(t *testing.T, s *signing, by testsign.Signer) any {
			a := testsign.CertifiedAttachment(t, by, repository, s.digest(), s.proof)
			a.Annotations["dev.sigstore.cosign/certificate"] = by.PEM
			return a
		}, code.Malformed, "PUBLIC KEY"},
		{"attachment: two certificates", func(t *testing.T, s *signing, by testsign.Signer) any {
			a := testsign.CertifiedAttachment(t, by, repository, s.digest(), s.proof)
			a.Annotations["dev.sigstore.cosign/certificate"] += testsign.CertificatePEM(s.authority.Intermediate)
			return a
		}, code.Malformed, "one certificate"},
		{"attachment: a member in the payload that nobody knows", func(t *testing.T, s *signing, by testsign.Signer) any {
			a := testsign.CertifiedAttachment(t, by, repository, s.digest(), s.proof)
			a.Payload = []byte(strings.Replace(string(a.Payload), `"optional"`, `"extra":1,"optional"`, 1))
			return a
		}, code.Malformed, "extra"},
		{"attachment: of another media type", func(t *testing.T, s *signing, by testsign.Signer) any {
			a := testsign.CertifiedAttachment(t, by, repository, s.digest(), s.proof)
			a.MediaType = "application/octet-stream"
			return a
		}, code.Malformed, "octet-stream"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSigning(t)
			made := test.make(t, s, s.authority.Issue(t, s.person))
			s.put(t, made)
			refused(t, s.judgeKeyless(t), test.want, test.saying)
		})
	}
}
