package judge_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

var usageServer = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

// corporate is a signature by an authority of one's own, and the root for it.
func corporate(t *testing.T) *signing {
	t.Helper()
	s := newSigning(t)
	s.person = testsign.Person{Email: "release@acme.example", WithoutSCT: true}
	s.proof = testsign.Proof{}
	s.root = map[string]any{"roots": []string{testsign.CertificatePEM(s.authority.Root)},
		"intermediates": []string{testsign.CertificatePEM(s.authority.Intermediate)}, "email": "release@acme.example"}
	return s
}

func TestPKI(t *testing.T) {
	past := func(s *signing) {
		s.person.From, s.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	stamped := func(s *signing) {
		s.proof.TSA, s.root["timestampRoots"] = s.authority, []string{s.authority.TimestampPEM()}
	}
	name := func(kind, value string) func(*signing) {
		return func(s *signing) {
			delete(s.root, "email")
			s.root[kind] = value
		}
	}
	tests := []struct {
		name    string
		change  func(*testing.T, *signing)
		want    code.Code
		saying  string
		endless bool
	}{
		{"right", func(*testing.T, *signing) {}, code.OK, "", false},
		{"right, by a URI", func(_ *testing.T, s *signing) {
			s.person.URI, s.person.Email = "spiffe://acme.example/release", ""
			name("uri", "spiffe://acme.example/release")(s)
		}, code.OK, "", false},
		{"right, by a DNS name", func(_ *testing.T, s *signing) {
			s.person.DNS, s.person.Email = "build.acme.example", ""
			name("dns", "build.acme.example")(s)
		}, code.OK, "", false},
		{"right, with a key P-384", func(_ *testing.T, s *signing) { s.person.Kind = "p384" }, code.OK, "", false},
		{"right, with an RSA key", func(_ *testing.T, s *signing) { s.person.Kind = "rsa2048" }, code.OK, "", false},
		{"a DNS name where an e-mail address is asked for", func(_ *testing.T, s *signing) {
			s.person.DNS, s.person.Email = "release@acme.example", ""
		}, code.WrongIdentity, "expected email", false},
		{"another name", func(_ *testing.T, s *signing) { s.person.Email = "dev@acme.example" }, code.WrongIdentity, "dev@acme.example", false},
		{"no name", func(_ *testing.T, s *signing) { s.person.Email = "" }, code.WrongIdentity, "no name", false},
		{"of another authority", func(_ *testing.T, s *signing) { s.issuedBy = s.other }, code.UntrustedChain, "", false},
		{"no intermediate", func(_ *testing.T, s *signing) { delete(s.root, "intermediates") }, code.UntrustedChain, "", false},
		{"not for signing code", func(_ *testing.T, s *signing) { s.person.Usage = usageServer }, code.UntrustedChain, "extended key usage", false},
		{"for anything", func(_ *testing.T, s *signing) { s.person.Usage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, code.UntrustedChain, "extended key usage", false},
		{"expired, without a timestamp", func(_ *testing.T, s *signing) { past(s) }, code.Expired, "no trusted time is known", false},
		{"not yet valid", func(_ *testing.T, s *signing) {
			s.person.From, s.person.To = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		}, code.Expired, "", false},
		{"stamped in time", func(_ *testing.T, s *signing) { stamped(s) }, code.OK, "", true},
		{"stamped too late", func(_ *testing.T, s *signing) { past(s); stamped(s) }, code.Expired, "proven time", false},
		{"stamped by somebody else: now counts", func(_ *testing.T, s *signing) { stamped(s); s.proof.TSA = s.other }, code.OK, "", false},
		{"an intermediate that has expired", func(t *testing.T, s *signing) {
			s.authority = testsign.NewAuthorityOf(t, time.Now().Add(-9*time.Hour), time.Now().Add(-time.Hour))
			s.issuedBy = s.authority
			s.root["roots"] = []string{testsign.CertificatePEM(s.authority.Root)}
			s.root["intermediates"] = []string{testsign.CertificatePEM(s.authority.Intermediate)}
		}, code.Expired, "", false},
		{"for another digest", func(_ *testing.T, s *signing) { s.signed = testsign.Digest([]byte("other")) }, code.OtherImage, "for digest", false},
		{"not on the authority's list", func(t *testing.T, s *signing) {
			s.root["crls"] = []string{s.authority.CRL(t, time.Now().Add(time.Hour), s.authority.Issue(t, s.person).Certificate)}
		}, code.OK, "", false},
		{"the list is out of date", func(t *testing.T, s *signing) {
			s.root["crls"] = []string{s.authority.CRL(t, time.Now().Add(-time.Hour))}
		}, code.Expired, "out of date", false},
	}
	for _, format := range []string{"bundle", "attachment"} {
		for _, test := range tests {
			t.Run(format+"/"+test.name, func(t *testing.T) {
				s := corporate(t)
				test.change(t, s)
				set := s.sign(t, format)
				s.putSet(t, set)
				o := s.judgePKI(t)
				if test.want != code.OK {
					refused(t, o, test.want, test.saying)
					return
				}
				allowed(t, o, code.OK)
				if o.Expires.IsZero() != test.endless {
					t.Errorf("the outcome expires at %v", o.Expires)
				}
			})
		}
	}
}

func (s *signing) judgePKI(t *testing.T) judge.Outcome {
	t.Helper()
	s.doc.Others = map[string]any{"corp": map[string]any{"pki": s.root}}
	s.doc.Scopes = map[string]any{repository: map[string]any{"anyOf": []string{"corp"}}}
	return s.judge(t)
}

func (s *scene) putSet(t *testing.T, set evidence.Set) {
	t.Helper()
	for _, a := range set.Attachments {
		s.put(t, a)
	}
	for _, b := range set.Bundles {
		s.put(t, b)
	}
}

func TestPKIRevokedByItsAuthority(t *testing.T) {
	s := corporate(t)
	by := s.authority.Issue(t, s.person)
	s.put(t, testsign.CertifiedBundle(t, by, s.digest(), s.proof))
	allowed(t, s.judgePKI(t), code.OK)
	s.root["crls"] = []string{s.authority.CRL(t, time.Now().Add(time.Hour), by.Certificate)}
	refused(t, s.judgePKI(t), code.Revoked, "by its issuer")
}

func TestPKIIntermediateThatCameWithTheSignature(t *testing.T) {
	s := corporate(t)
	delete(s.root, "intermediates")
	a := testsign.CertifiedAttachment(t, s.authority.Issue(t, s.person), repository, s.digest(), s.proof)
	s.put(t, a)
	refused(t, s.judgePKI(t), code.UntrustedChain, "")
	a.Annotations["dev.sigstore.cosign/chain"] = testsign.CertificatePEM(s.authority.Intermediate)
	s.put(t, a)
	allowed(t, s.judgePKI(t), code.OK)
}

func TestPKITampered(t *testing.T) {
	s := corporate(t)
	by := s.authority.Issue(t, s.person)
	c := by.Content(t, testsign.Statement(testsign.Digest([]byte("other")), testsign.SignPredicate))
	c.Signed = testsign.Statement(s.digest(), testsign.SignPredicate)
	s.put(t, testsign.CertifiedBundleOf(t, c, s.proof))
	refused(t, s.judgePKI(t), code.Tampered, "does not hold")
	s.put(t, testsign.CertifiedBundle(t, by, s.digest(), s.proof))
	allowed(t, s.judgePKI(t), code.OK)
}

// Signatures of cosign 3.1.1 with a certificate of an authority of one's own.
func TestPKISignaturesOfCosign(t *testing.T) {
	judge.SetClock(t, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) // their certificates end a year later
	for _, test := range []struct {
		name, folder, repository string
		intermediates            bool
		want                     code.Code
	}{
		{"bundle", "cosign-bundle-byo-pki", "127.0.0.1:5711/demo/any", true, code.OK},
		{"bundle, no intermediate", "cosign-bundle-byo-pki", "127.0.0.1:5711/demo/any", false, code.UntrustedChain},
		{"attachment", "cosign-legacy-byo-pki", "", true, code.OK},
		{"attachment, no intermediate", "cosign-legacy-byo-pki", "", false, code.UntrustedChain},
		{"attachment with its chain", "cosign-legacy-byo-pki-with-chain", "", false, code.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := shape(t, test.folder)
			if test.repository == "" {
				_, after, _ := strings.Cut(string(set.Attachments[0].Payload), `"docker-reference":"`)
				test.repository, _, _ = strings.Cut(after, `"`)
			}
			root := map[string]any{"roots": []string{string(readFile(t, "byo-root.pem"))}, "email": "release@example.test"}
			if test.intermediates {
				root["intermediates"] = []string{string(readFile(t, "byo-int.pem"))}
			}
			doc := testsign.PolicyDoc{Others: map[string]any{"corp": map[string]any{"pki": root}},
				Scopes: map[string]any{test.repository: map[string]any{"anyOf": []string{"corp"}}}}
			if o := judgeShape(t, doc, set, test.repository); o.Code != test.want {
				t.Errorf("got %s, want %s: %q", o.Code, test.want, o.Details)
			}
		})
	}
}
