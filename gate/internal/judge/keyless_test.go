package judge_test

import (
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

const (
	githubIssuer = "https://token.actions.githubusercontent.com"
	workflow     = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
	workflowGlob = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/*"
)

// signing is all that one keyless signature is made of. Each test changes one thing.
type signing struct {
	scene
	authority, other *testsign.Authority
	person           testsign.Person
	issuedBy         *testsign.Authority
	proof            testsign.Proof
	signed           string // the digest
	listed           testsign.Listed
	root             map[string]any
}

func newSigning(t *testing.T) *signing {
	t.Helper()
	s := &signing{scene: *newScene(t), authority: testsign.NewAuthority(t), other: testsign.NewAuthority(t)}
	s.person = testsign.Person{URI: workflow, Issuer: githubIssuer, Ref: "refs/tags/v1"}
	s.issuedBy = s.authority
	s.proof = testsign.Proof{Log: s.authority}
	s.signed = s.digest()
	s.listed = testsign.Listed{CA: s.authority, CT: s.authority, Log: s.authority, TSA: s.authority}
	s.root = map[string]any{"issuer": githubIssuer, "subject": workflowGlob}
	return s
}

// sign gives the signature in one of the formats.
func (s *signing) sign(t *testing.T, format string) evidence.Set {
	t.Helper()
	signer := s.issuedBy.Issue(t, s.person)
	var set evidence.Set
	if format == "attachment" {
		set.Attachments = append(set.Attachments, testsign.CertifiedAttachment(t, signer, repository, s.signed, s.proof))
	} else {
		set.Bundles = append(set.Bundles, testsign.CertifiedBundle(t, signer, s.signed, s.proof))
	}
	return set
}

func (s *signing) judgeFormat(t *testing.T, format string) judge.Outcome {
	t.Helper()
	s.putSet(t, s.sign(t, format))
	return s.judgeKeyless(t)
}

func (s *signing) judgeKeyless(t *testing.T) judge.Outcome {
	t.Helper()
	if s.root["trustedRoot"] == nil {
		s.root["trustedRoot"] = []any{s.listed.TrustedRoot(t)}
	}
	s.doc.Others = map[string]any{"release": map[string]any{"keyless": s.root}}
	s.doc.Scopes = map[string]any{repository: map[string]any{"anyOf": []string{"release"}}}
	return s.judge(t)
}

var keylessCases = []struct {
	name   string
	change func(*testing.T, *signing)
	want   code.Code
	saying string
}{
	{"right", func(*testing.T, *signing) {}, code.OK, ""},
	{"right, with a timestamp and no log", func(_ *testing.T, s *signing) {
		s.proof, s.listed.Log = testsign.Proof{TSA: s.authority}, nil
	}, code.OK, ""},
	{"right, with both", func(_ *testing.T, s *signing) { s.proof.TSA = s.authority }, code.OK, ""},
	{"right, by a person", func(_ *testing.T, s *signing) {
		s.person.URI, s.person.Email, s.root["subject"] = "", "dev@acme.example", "dev@acme.example"
	}, code.OK, ""},
	{"right, with a key P-384", func(_ *testing.T, s *signing) { s.person.Kind = "p384" }, code.OK, ""},
	{"right, with claims", func(_ *testing.T, s *signing) { s.root["claims"] = map[string]string{"ref": "refs/tags/v1"} }, code.OK, ""},
	{"right, by the second of two trusted roots", func(t *testing.T, s *signing) {
		s.root["trustedRoot"] = []any{s.other.TrustedRoot(t), s.authority.TrustedRoot(t)}
	}, code.OK, ""},
	{"a trusted root with the logs of one and the authority of another", func(t *testing.T, s *signing) {
		s.root["trustedRoot"] = []any{
			testsign.Listed{CA: s.authority, CT: s.authority, Log: s.other}.TrustedRoot(t),
			testsign.Listed{CA: s.other, CT: s.other, Log: s.authority}.TrustedRoot(t)}
	}, code.NoTrustedTime, "no trusted log"},
	{"of another authority", func(_ *testing.T, s *signing) { s.issuedBy = s.other }, code.UntrustedChain, "leads to no trusted authority"},
	{"another workflow", func(_ *testing.T, s *signing) {
		s.person.URI = strings.Replace(workflow, "release.yml", "test.yml", 1)
	}, code.WrongIdentity, "expected " + workflowGlob},
	{"another ref of the workflow", func(_ *testing.T, s *signing) {
		s.person.URI = strings.Replace(workflow, "refs/tags/v1", "refs/heads/main", 1)
	}, code.WrongIdentity, "refs/heads/main"},
	{"a ref below the wildcard", func(_ *testing.T, s *signing) { s.person.URI = workflow + "/x" }, code.WrongIdentity, ""},
	{"another owner", func(_ *testing.T, s *signing) {
		s.person.URI = strings.Replace(workflow, "/acme/", "/acme-evil/", 1)
	}, code.WrongIdentity, "acme-evil"},
	{"the identity as an e-mail address", func(_ *testing.T, s *signing) {
		s.person.URI, s.person.Email, s.root["subject"] = "", "x@acme.example", "https://acme.example/x/*"
	}, code.WrongIdentity, ""},
	{"two names", func(_ *testing.T, s *signing) { s.person.More = []string{"dev@acme.example"} }, code.WrongIdentity, "dev@acme.example"},
	{"another issuer", func(_ *testing.T, s *signing) { s.person.Issuer = "https://gitlab.com" }, code.WrongIdentity, "expected \"" + githubIssuer},
	{"no issuer", func(_ *testing.T, s *signing) { s.person.Issuer = "" }, code.WrongIdentity, "issuer \"\""},
	{"another claim", func(_ *testing.T, s *signing) { s.root["claims"] = map[string]string{"ref": "refs/tags/v2"} },
		code.WrongIdentity, `ref "refs/tags/v1", expected "refs/tags/v2"`},
	{"a claim that is not there", func(_ *testing.T, s *signing) { s.root["claims"] = map[string]string{"trigger": "push"} },
		code.WrongIdentity, `trigger ""`},
	{"expired when it was logged", func(_ *testing.T, s *signing) {
		s.person.From, s.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}, code.Expired, "proven time"},
	{"not yet valid when it was logged", func(_ *testing.T, s *signing) {
		s.person.From, s.person.To = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}, code.Expired, "proven time"},
	{"expired when it was stamped", func(_ *testing.T, s *signing) {
		s.proof, s.listed.Log = testsign.Proof{TSA: s.authority}, nil
		s.person.From, s.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}, code.Expired, "proven time"},
	{"logged in time, and stamped too late", func(_ *testing.T, s *signing) {
		s.person.From, s.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		s.proof.At, s.proof.TSA = time.Now().Add(-90*time.Minute), s.authority
	}, code.Expired, "proven time"},
	{"logged in time, long ago", func(_ *testing.T, s *signing) {
		s.person.From, s.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		s.proof.At = time.Now().Add(-90 * time.Minute)
	}, code.OK, ""},
	{"logged before the log was trusted", func(_ *testing.T, s *signing) {
		s.person.From, s.person.To = time.Now().Add(-52*time.Hour), time.Now().Add(-50*time.Hour)
		s.proof.At = time.Now().Add(-51 * time.Hour)
	}, code.NoTrustedTime, "was not trusted"},
	{"an intermediate that had expired", func(t *testing.T, s *signing) {
		s.authority = testsign.NewAuthorityOf(t, time.Now().Add(-9*time.Hour), time.Now().Add(-time.Hour))
		s.issuedBy, s.proof.Log = s.authority, s.authority
		s.listed = testsign.Listed{CA: s.authority, CT: s.authority, Log: s.authority, TSA: s.authority}
	}, code.Expired, "proven time"},
	{"no log entry", func(_ *testing.T, s *signing) { s.proof = testsign.Proof{TSA: s.authority} }, code.NoTrustedTime, "no log entry"},
	{"no time", func(_ *testing.T, s *signing) { s.proof, s.listed.Log = testsign.Proof{}, nil }, code.NoTrustedTime, "no timestamp"},
	{"of another log", func(_ *testing.T, s *signing) { s.proof.Log = s.other }, code.NoTrustedTime, "no trusted log"},
	{"of another timestamp authority", func(_ *testing.T, s *signing) {
		s.proof, s.listed.Log = testsign.Proof{TSA: s.other}, nil
	}, code.NoTrustedTime, "no trusted timestamp"},
	{"a tampered timestamp", func(_ *testing.T, s *signing) {
		s.proof, s.listed.Log = testsign.Proof{TSA: s.authority}, nil
		s.proof.ChangeStamp = func(stamp []byte) []byte { stamp[len(stamp)-9] ^= 1; return stamp }
	}, code.NoTrustedTime, "no trusted timestamp"},
	{"no SCT", func(_ *testing.T, s *signing) { s.person.WithoutSCT = true }, code.NoTrustedTime, "SCT"},
	{"no SCT, and none asked for", func(_ *testing.T, s *signing) { s.person.WithoutSCT, s.listed.CT = true, nil }, code.OK, ""},
	{"no SCT, where the root waives it", func(_ *testing.T, s *signing) {
		s.person.WithoutSCT, s.root["require"] = true, map[string]int{"sct": 0}
	}, code.OK, ""},
	{"an SCT of another log", func(_ *testing.T, s *signing) { s.listed.CT = s.other }, code.NoTrustedTime, "SCT"},
	{"a certificate that is not for signing code", func(_ *testing.T, s *signing) { s.person.Usage = usageServer }, code.UntrustedChain, "extended key usage"},
	{"for another digest", func(_ *testing.T, s *signing) { s.signed = testsign.Digest([]byte("other")) }, code.OtherImage, "for digest"},
	{"by the clock, in time", func(_ *testing.T, s *signing) {
		s.proof, s.listed.Log, s.root["require"] = testsign.Proof{}, nil, map[string]int{"time": 0}
	}, code.OK, ""},
	{"by the clock, too late", func(_ *testing.T, s *signing) {
		s.proof, s.listed.Log, s.root["require"] = testsign.Proof{}, nil, map[string]int{"time": 0}
		s.person.From, s.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}, code.Expired, "no trusted time is known"},
}

func TestKeyless(t *testing.T) {
	for _, format := range []string{"bundle", "attachment"} {
		for _, test := range keylessCases {
			t.Run(format+"/"+test.name, func(t *testing.T) {
				s := newSigning(t)
				test.change(t, s)
				o := s.judgeFormat(t, format)
				if test.want != code.OK {
					refused(t, o, test.want, test.saying)
					return
				}
				allowed(t, o, code.OK)
				if o.Root != "release" || o.Format != format {
					t.Errorf("satisfied %q by %q", o.Root, o.Format)
				}
				if byClock := s.root["require"] != nil && strings.Contains(test.name, "clock"); byClock == o.Expires.IsZero() {
					t.Errorf("the outcome expires at %v", o.Expires)
				}
			})
		}
	}
}

func TestKeylessAmongOthers(t *testing.T) {
	s := newSigning(t)
	good := s.authority.Issue(t, s.person)
	bad := s.other.Issue(t, s.person)
	s.put(t, testsign.CertifiedBundle(t, bad, s.digest(), testsign.Proof{Log: s.other}), evidence.Bundle{JSON: []byte("junk")},
		testsign.Attachment(t, s.key, repository, s.digest()))
	refused(t, s.judgeKeyless(t), code.UntrustedChain, "BAD_SIGNATURE: attachment")
	s.put(t, testsign.CertifiedBundle(t, good, s.digest(), s.proof))
	allowed(t, s.judgeKeyless(t), code.OK)
}

func TestRevokedCertificates(t *testing.T) {
	for name, revoked := range map[string]func(s *signing, by testsign.Signer) any{
		"by fingerprint":  func(_ *signing, by testsign.Signer) any { return testsign.Digest(by.Certificate.Raw) },
		"the authority's": func(s *signing, _ testsign.Signer) any { return testsign.Digest(s.authority.Intermediate.Raw) },
		"by issuer and serial": func(_ *signing, by testsign.Signer) any {
			return issuerAndSerial(by, by.Certificate.SerialNumber.Text(16))
		},
		"another serial, so it is": func(_ *signing, by testsign.Signer) any { return issuerAndSerial(by, "1234") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigning(t)
			by := s.authority.Issue(t, s.person)
			s.put(t, testsign.CertifiedBundle(t, by, s.digest(), s.proof))
			s.doc.Certificates = []any{revoked(s, by)}
			o := s.judgeKeyless(t)
			if strings.HasPrefix(name, "another") {
				allowed(t, o, code.OK)
			} else {
				refused(t, o, code.Revoked, "by the policy")
			}
		})
	}
}

func TestRevokedKeyInACertificate(t *testing.T) {
	s := newSigning(t)
	by := s.authority.Issue(t, s.person)
	s.put(t, testsign.CertifiedBundle(t, by, s.digest(), s.proof))
	s.doc.Keys = []string{s.other.Issue(t, s.person).Fingerprint}
	allowed(t, s.judgeKeyless(t), code.OK)
	s.doc.Keys = []string{by.Fingerprint}
	refused(t, s.judgeKeyless(t), code.Revoked, "by the policy")
}

// A trusted root has its intermediates: what comes with a signature is nobody's word.
func TestKeylessIntermediateThatCameWithTheSignature(t *testing.T) {
	s := newSigning(t)
	a := testsign.CertifiedAttachment(t, s.authority.Issue(t, s.person), repository, s.digest(), s.proof)
	a.Annotations["dev.sigstore.cosign/chain"] = testsign.CertificatePEM(s.authority.Intermediate)
	s.put(t, a)
	whole := s.authority.TrustedRoot(t)
	s.root["trustedRoot"] = []any{s.authority.WithoutIntermediate().TrustedRoot(t)}
	refused(t, s.judgeKeyless(t), code.UntrustedChain, "")
	s.root["trustedRoot"] = []any{whole}
	allowed(t, s.judgeKeyless(t), code.OK)
}

func issuerAndSerial(by testsign.Signer, serial string) any {
	return map[string]any{"issuer": by.Certificate.Issuer.String(), "serial": serial}
}
