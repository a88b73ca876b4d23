package judge_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/testsign"
)

func TestSignatureThatDoesNotSatisfy(t *testing.T) {
	otherDigest := testsign.Digest([]byte("another image"))
	tests := []struct {
		name   string
		put    func(*testing.T, *scene)
		want   code.Code
		saying string
	}{
		{"nothing", func(*testing.T, *scene) {}, code.Unsigned, "no signature"},
		{"an attachment of a wrong key", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.other, repository, s.digest()))
		}, code.BadSignature, "no key of the root"},
		{"an attachment with an altered payload", func(t *testing.T, s *scene) {
			a := testsign.Attachment(t, s.key, repository, otherDigest)
			a.Payload = testsign.Payload(repository, s.digest())
			s.put(t, a)
		}, code.BadSignature, "no key of the root"},
		{"an attachment for another digest", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, repository, otherDigest))
		}, code.OtherImage, "for digest " + otherDigest},
		{"an attachment copied from another repository", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, "registry.example/origin", s.digest()))
		}, code.OtherImage, "registry.example/origin"},
		{"an attachment of a parent path", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, "registry.example", s.digest()))
		}, code.OtherImage, "registry.example"},
		{"an attachment without a signature", func(t *testing.T, s *scene) {
			s.put(t, evidence.Attachment{MediaType: testsign.SimpleSigning, Payload: testsign.Payload(repository, s.digest())})
		}, code.Malformed, "no annotation"},
		{"an attachment whose signature is not base64", func(t *testing.T, s *scene) {
			a := testsign.Attachment(t, s.key, repository, s.digest())
			a.Annotations[testsign.SignatureAnnotation] = "!"
			s.put(t, a)
		}, code.Malformed, "base64"},
		{"an attachment with a signed payload of another kind", func(t *testing.T, s *scene) {
			s.put(t, testsign.AttachmentOf(t, s.key, []byte(`{"critical":{"type":"atomic container signature"}}`)))
		}, code.Malformed, "atomic container"},
		{"an attachment with a member that the engine does not know", func(t *testing.T, s *scene) {
			payload := strings.Replace(string(testsign.Payload(repository, s.digest())), `"optional"`, `"extra":1,"optional"`, 1)
			s.put(t, testsign.AttachmentOf(t, s.key, []byte(payload)))
		}, code.Malformed, "but refused"},
		{"an attachment of another media type", func(t *testing.T, s *scene) {
			a := testsign.Attachment(t, s.key, repository, s.digest())
			a.MediaType = "application/octet-stream"
			s.put(t, a)
		}, code.Malformed, "but refused"},
		{"a bundle of a wrong key", func(t *testing.T, s *scene) { s.put(t, testsign.Bundle(t, s.other, s.digest())) },
			code.BadSignature, "does not trust"},
		{"a bundle that names a trusted key, with altered content", func(t *testing.T, s *scene) {
			s.put(t, testsign.WrapBundle(t, s.key, testsign.Statement(s.digest(), testsign.SignPredicate), []byte("signature")))
		}, code.Tampered, "names the trusted key"},
		{"a bundle for another digest", func(t *testing.T, s *scene) { s.put(t, testsign.Bundle(t, s.key, otherDigest)) },
			code.OtherImage, "for digest " + otherDigest},
		{"an SBOM attestation by the right key", func(t *testing.T, s *scene) {
			s.put(t, testsign.BundleOf(t, s.key, testsign.Statement(s.digest(), "https://spdx.dev/Document")))
		}, code.Unsigned, "https://spdx.dev/Document"},
		{"an SBOM attestation in the older statement that cosign attest writes", func(t *testing.T, s *scene) {
			older := strings.Replace(string(testsign.Statement(s.digest(), "https://spdx.dev/Document")), "Statement/v1", "Statement/v0.1", 1)
			s.put(t, testsign.BundleOf(t, s.key, []byte(older)))
		}, code.Unsigned, "https://spdx.dev/Document"},
		{"a signature in an older statement", func(t *testing.T, s *scene) {
			older := strings.Replace(string(testsign.Statement(s.digest(), "https://sigstore.dev/cosign/sign/v1")), "Statement/v1", "Statement/v0.1", 1)
			s.put(t, testsign.BundleOf(t, s.key, []byte(older)))
		}, code.Malformed, "Statement/v0.1"},
		{"a bundle with two subjects", func(t *testing.T, s *scene) {
			one := `{"digest":{"sha256":"` + s.digest()[7:] + `"}}`
			s.put(t, testsign.BundleOf(t, s.key, []byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"`+testsign.SignPredicate+
				`","subject":[`+one+","+strings.Replace(one, s.digest()[7:], otherDigest[7:], 1)+`],"predicate":{}}`)))
		}, code.Malformed, "exactly one subject"},
		{"a bundle with a statement of another version", func(t *testing.T, s *scene) {
			text := string(testsign.Statement(s.digest(), testsign.SignPredicate))
			s.put(t, testsign.BundleOf(t, s.key, []byte(strings.Replace(text, "Statement/v1", "Statement/v2", 1))))
		}, code.Malformed, "Statement/v2"},
		{"a bundle with two signatures", func(t *testing.T, s *scene) {
			s.put(t, testsign.WrapBundle(t, s.key, testsign.Statement(s.digest(), testsign.SignPredicate), []byte("a"), []byte("b")))
		}, code.Malformed, "2 DSSE signatures"},
		{"a bundle of another version", func(t *testing.T, s *scene) {
			b := testsign.Bundle(t, s.key, s.digest())
			s.put(t, evidence.Bundle{JSON: []byte(strings.Replace(string(b.JSON), "bundle.v0.3", "bundle.v0.2", 1))})
		}, code.Malformed, "v0.2"},
		{"a bundle that is not JSON", func(t *testing.T, s *scene) { s.put(t, evidence.Bundle{JSON: []byte("junk")}) },
			code.Malformed, "not a Sigstore bundle"},
		{"a bundle with a certificate", func(t *testing.T, s *scene) {
			s.put(t, evidence.Bundle{JSON: readFile(t, "cosign-bundle-byo-pki/bundle.json")})
		}, code.BadSignature, "certificate"},
		{"a bundle whose hint is junk", func(t *testing.T, s *scene) {
			b := testsign.Bundle(t, s.other, s.digest())
			at := strings.Index(string(b.JSON), `"hint":"`) + len(`"hint":"`)
			s.put(t, evidence.Bundle{JSON: append(append(slices.Clone(b.JSON[:at]), "??"...), b.JSON[at:]...)})
		}, code.BadSignature, "it names"},
		{"a signature of the config digest", func(t *testing.T, s *scene) { s.put(t, testsign.Bundle(t, s.key, s.request.Config)) },
			code.OtherImage, ""},
		{"a bundle by a revoked key", func(t *testing.T, s *scene) {
			s.doc.Keys = []string{s.key.Fingerprint}
			s.put(t, testsign.Bundle(t, s.key, s.digest()))
		}, code.Revoked, s256},
		{"an attachment by a revoked key", func(t *testing.T, s *scene) {
			s.doc.Keys = []string{s.key.Fingerprint}
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()))
		}, code.Revoked, s256},
		{"an attachment by the revoked one of two keys", func(t *testing.T, s *scene) {
			s.doc.Roots["team-key"], s.doc.Keys = []testsign.Key{s.other, s.key}, []string{s.key.Fingerprint}
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()))
		}, code.Revoked, s256},
		{"a bundle that names a revoked key of no root", func(t *testing.T, s *scene) {
			s.doc.Keys = []string{s.other.Fingerprint}
			s.put(t, testsign.Bundle(t, s.other, s.digest()))
		}, code.BadSignature, "names the revoked key"},
		{"a key that was rotated out", func(t *testing.T, s *scene) {
			s.doc.Roots["team-key"] = []testsign.Key{s.other}
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()))
		}, code.BadSignature, ""},
		{"a signature of the index put beside the manifest", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, repository, s.request.Index))
		}, code.OtherImage, ""},
		{"several failures: the furthest counts, all are told", func(t *testing.T, s *scene) {
			s.put(t, evidence.Bundle{JSON: []byte("junk")}, testsign.Bundle(t, s.other, s.digest()),
				testsign.Attachment(t, s.key, "registry.example/origin", s.digest()))
		}, code.OtherImage, "MALFORMED: bundle"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			test.put(t, s)
			o := s.judge(t)
			refused(t, o, test.want, test.saying)
			if o.Settled {
				t.Error("a refusal for want of a signature must not be remembered for long")
			}
			if s.registry.asked.Load() == 0 {
				t.Error("the registry was not asked before refusing")
			}
		})
	}
}

const s256 = "sha256:"

func TestFailedLookUps(t *testing.T) {
	offline := code.Refuse(code.NoEvidenceOffline, "connection refused", "", "")
	tests := []struct {
		name string
		err  error
		put  func(*testing.T, *scene)
		want code.Code
	}{
		{"offline, nothing stored", offline, func(*testing.T, *scene) {}, code.NoEvidenceOffline},
		{"offline, an SBOM stored", offline, func(t *testing.T, s *scene) {
			s.put(t, testsign.BundleOf(t, s.key, testsign.Statement(s.digest(), "https://spdx.dev/Document")))
		}, code.NoEvidenceOffline},
		{"offline, a bad signature stored", offline, func(t *testing.T, s *scene) { s.put(t, testsign.Bundle(t, s.other, s.digest())) },
			code.BadSignature},
		{"not authorised", code.Refuse(code.RegistryAuth, "401", "", ""), func(*testing.T, *scene) {}, code.RegistryAuth},
		{"a broken registry", code.Refuse(code.RegistryError, "500", "", ""), func(*testing.T, *scene) {}, code.RegistryError},
		{"an untyped failure", context.DeadlineExceeded, func(*testing.T, *scene) {}, code.RegistryError},
		{"a problem with the content", nil, func(_ *testing.T, s *scene) {
			s.registry.sets[s.digest()] = setOf(s.manifest, code.Refuse(code.Tampered, "other bytes", "", ""))
		}, code.Tampered},
		{"a failure, but a good signature", code.Refuse(code.RegistryError, "500", "", ""), func(t *testing.T, s *scene) {
			s.registry.sets[s.digest()] = setOf(s.manifest, testsign.Bundle(t, s.key, s.digest()))
		}, code.OK},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.registry.err = test.err
			test.put(t, s)
			o := s.judge(t)
			if test.want == code.OK {
				allowed(t, o, code.OK)
			} else {
				refused(t, o, test.want, "")
			}
		})
	}
}

func TestHostileNumbersAreBounded(t *testing.T) {
	s := newScene(t)
	var problems []any
	for i := range 1000 {
		problems = append(problems, code.Refuse(code.Malformed, strings.Repeat("x", i+1), "", ""))
	}
	s.registry.sets[s.digest()] = setOf(s.manifest, problems...)
	o := s.judge(t)
	refused(t, o, code.Malformed, "and 968 more")
	if len(o.Details) != 33 {
		t.Errorf("%d lines", len(o.Details))
	}
}
