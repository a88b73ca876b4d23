package judge_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

const repository = "registry.example/app"

// fakeRegistry answers from memory.
type fakeRegistry struct {
	sets  map[string]evidence.Set // by digest
	err   error
	asked atomic.Int32
}

func (f *fakeRegistry) Fetch(_ context.Context, repository, digest string, known []byte) (evidence.Set, error) {
	f.asked.Add(1)
	set := f.sets[digest]
	set.Repository, set.Digest = repository, digest
	if known != nil {
		set.Manifest = known
	}
	return set, f.err
}

// scene is all that a case of judging can be about. Each test changes one thing.
type scene struct {
	key, other testsign.Key
	manifest   []byte // of the image
	index      []byte
	doc        testsign.PolicyDoc
	request    judge.Request
	store      *evidence.Store
	registry   *fakeRegistry
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{key: testsign.NewKey(t), other: testsign.NewKey(t), manifest: testsign.Manifest("image"), index: testsign.Manifest("index")}
	s.doc = testsign.PolicyDoc{
		Roots:  map[string][]testsign.Key{"team-key": {s.key}},
		Scopes: map[string]any{repository: map[string]any{"anyOf": []string{"team-key"}}},
	}
	s.request = judge.Request{Repository: repository, Manifest: testsign.Digest(s.manifest), Index: testsign.Digest(s.index),
		Config: testsign.Digest([]byte("config"))}
	store, err := evidence.Open(evidence.Config{Dir: t.TempDir() + "/evidence"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Flush)
	s.store = store
	s.registry = &fakeRegistry{sets: map[string]evidence.Set{}}
	return s
}

func (s *scene) digest() string { return s.request.Manifest }

// put gives the store attachments and bundles for the manifest.
func (s *scene) put(t testing.TB, items ...any) { s.putFor(t, s.manifest, items...) }

func (s *scene) putFor(t testing.TB, manifest []byte, items ...any) {
	t.Helper()
	if err := s.store.Put(setOf(manifest, items...), false); err != nil {
		t.Fatal(err)
	}
}

func setOf(manifest []byte, items ...any) evidence.Set {
	set := evidence.Set{Repository: repository, Digest: testsign.Digest(manifest), Manifest: manifest}
	for _, item := range items {
		switch item := item.(type) {
		case evidence.Attachment:
			set.Attachments = append(set.Attachments, item)
		case evidence.Bundle:
			set.Bundles = append(set.Bundles, item)
		case *code.Refusal:
			set.Problems = append(set.Problems, item)
		}
	}
	return set
}

func (s *scene) judge(t testing.TB) judge.Outcome {
	t.Helper()
	collector := evidence.Collector{Store: s.store}
	if s.registry != nil {
		collector.Registry = s.registry
	}
	return judge.New(collector).Judge(t.Context(), s.doc.Parse(t), s.request)
}

// refused checks a refusal: its code, and what some line of it says.
func refused(t *testing.T, o judge.Outcome, want code.Code, saying string) {
	t.Helper()
	if o.Allow || o.Code != want || o.Refusal == nil || o.Refusal.Code != want {
		t.Fatalf("got %s (allow %v), want %s\n%s", o.Code, o.Allow, want, strings.Join(o.Details, "\n"))
	}
	if o.Refusal.Found == "" || o.Refusal.Expected == "" || o.Refusal.Do == "" {
		t.Errorf("the sentence lacks a part: %+v", o.Refusal)
	}
	if all := strings.Join(append(o.Details, o.Refusal.Found), "\n"); !strings.Contains(all, saying) {
		t.Errorf("nothing says %q:\n%s", saying, all)
	}
}

func allowed(t *testing.T, o judge.Outcome, want code.Code) {
	t.Helper()
	if !o.Allow || o.Code != want || o.Refusal != nil || !o.Settled {
		t.Fatalf("got %s (allow %v, settled %v), want %s\n%s", o.Code, o.Allow, o.Settled, want, strings.Join(o.Details, "\n"))
	}
}

func TestPolicyAloneDecides(t *testing.T) {
	tests := []struct {
		name   string
		change func(*scene)
		want   code.Code
	}{
		{"a revoked index", func(s *scene) { s.doc.Digests = []string{s.request.Index} }, code.Revoked},
		{"a revoked manifest", func(s *scene) { s.doc.Digests = []string{s.request.Manifest} }, code.Revoked},
		{"a revoked config", func(s *scene) { s.doc.Digests = []string{s.request.Config} }, code.Revoked},
		{"a revoked digest that is pinned", func(s *scene) {
			s.doc.Digests, s.doc.Pinned = []string{s.request.Config}, []string{"r.example/a@" + s.request.Config}
		}, code.Revoked},
		{"a revoked digest in an accepted scope", func(s *scene) {
			s.doc.Digests, s.doc.Scopes[repository] = []string{s.request.Config}, map[string]any{"accept": true}
		}, code.Revoked},
		{"a pinned manifest", func(s *scene) { s.doc.Pinned = []string{"r.example/a@" + s.request.Manifest} }, code.PinnedDigest},
		{"a pinned config in a rejected scope", func(s *scene) {
			s.doc.Pinned, s.doc.Scopes[repository] = []string{"r.example/a@" + s.request.Config}, map[string]any{"reject": true}
		}, code.PinnedDigest},
		{"a pinned index, named by ID", func(s *scene) {
			s.doc.Pinned, s.request.Repository = []string{"r.example/a@" + s.request.Index}, ""
		}, code.PinnedDigest},
		{"a name in ID form", func(s *scene) { s.request.Repository = "" }, code.NoScope},
		{"an unknown repository", func(s *scene) { s.request.Repository = "registry.example/application" }, code.NoScope},
		{"an accepted scope", func(s *scene) { s.doc.Scopes[repository] = map[string]any{"accept": true} }, code.AcceptedByScope},
		{"a rejected scope", func(s *scene) { s.doc.Scopes[repository] = map[string]any{"reject": true} }, code.RejectedByScope},
		{"an accepted scope above a rejected one", func(s *scene) {
			s.doc.Scopes["registry.example"], s.doc.Scopes[repository] = map[string]any{"accept": true}, map[string]any{"reject": true}
		}, code.RejectedByScope},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest())) // which would do
			test.change(s)
			o := s.judge(t)
			if test.want.Allows() {
				allowed(t, o, test.want)
			} else {
				refused(t, o, test.want, "")
			}
			if o.Source != judge.FromPolicy || !o.Settled || o.Verified || o.EvidenceHash != "" || s.registry.asked.Load() > 0 {
				t.Errorf("more than the policy was asked: %+v", o)
			}
			if alone, ok := judge.ByPolicy(s.doc.Parse(t), s.request); !ok || alone.Code != o.Code {
				t.Errorf("ByPolicy says %v, %s", ok, alone.Code)
			}
		})
	}
}

func TestSignatureInTheStoreIsEnough(t *testing.T) {
	tests := []struct {
		name   string
		put    func(*testing.T, *scene)
		format string
	}{
		{"an attachment", func(t *testing.T, s *scene) { s.put(t, testsign.Attachment(t, s.key, repository, s.digest())) }, "attachment"},
		{"an attachment that names a tag too", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, repository+":v1", s.digest()))
		}, "attachment"},
		{"a bundle", func(t *testing.T, s *scene) { s.put(t, testsign.Bundle(t, s.key, s.digest())) }, "bundle"},
		{"an attachment of the index", func(t *testing.T, s *scene) {
			s.putFor(t, s.index, testsign.Attachment(t, s.key, repository, s.request.Index))
		}, "attachment"},
		{"a bundle of the index", func(t *testing.T, s *scene) { s.putFor(t, s.index, testsign.Bundle(t, s.key, s.request.Index)) }, "bundle"},
		{"a good attachment behind bad ones", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.other, repository, s.digest()),
				evidence.Attachment{MediaType: testsign.SimpleSigning, Payload: []byte("junk")},
				testsign.Attachment(t, s.key, "registry.example/other", s.digest()),
				testsign.Attachment(t, s.key, repository, s.digest()))
		}, "attachment"},
		{"a good bundle behind bad ones", func(t *testing.T, s *scene) {
			s.put(t, evidence.Bundle{JSON: []byte("{}")}, testsign.Bundle(t, s.other, s.digest()), testsign.Bundle(t, s.key, s.digest()),
				testsign.Attachment(t, s.other, repository, s.digest()))
		}, "bundle"},
		{"any of two keys", func(t *testing.T, s *scene) {
			s.doc.Roots["team-key"] = []testsign.Key{s.other, s.key}
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()))
		}, "attachment"},
		{"any of two roots", func(t *testing.T, s *scene) {
			s.doc.Roots["other"] = []testsign.Key{s.other}
			s.doc.Scopes[repository] = map[string]any{"anyOf": []string{"other", "team-key"}}
			s.put(t, testsign.Bundle(t, s.key, s.digest()))
		}, "bundle"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			test.put(t, s)
			o := s.judge(t)
			allowed(t, o, code.OK)
			if o.Format != test.format || o.Root != "team-key" || o.Source != "store" || !o.Verified || s.registry.asked.Load() > 0 {
				t.Errorf("got %+v", o)
			}
			if hash, err := s.store.Hash(repository, s.request.Manifest, s.request.Index); err != nil || hash != o.EvidenceHash {
				t.Errorf("evidence hash %s, the store says %s, %v", o.EvidenceHash, hash, err)
			}
		})
	}
}

func TestKeysOfEveryKindVerifyBothFormats(t *testing.T) {
	for _, kind := range []string{"p256", "p384", "p521", "rsa2048", "ed25519"} {
		for _, format := range []string{"attachment", "bundle"} {
			t.Run(kind+" "+format, func(t *testing.T) {
				s := newScene(t)
				key := testsign.NewKeyOf(t, kind)
				s.doc.Roots["team-key"] = []testsign.Key{key}
				if format == "bundle" {
					s.put(t, testsign.Bundle(t, key, s.digest()))
				} else {
					s.put(t, testsign.Attachment(t, key, repository, s.digest()))
				}
				allowed(t, s.judge(t), code.OK)
			})
		}
	}
}

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
		{"an attachment whose signature is no base64", func(t *testing.T, s *scene) {
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
		{"a bundle that is no JSON", func(t *testing.T, s *scene) { s.put(t, evidence.Bundle{JSON: []byte("junk")}) },
			code.Malformed, "no Sigstore bundle"},
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
		}, code.Revoked, "names the revoked key"},
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

func TestAllOf(t *testing.T) {
	tests := []struct {
		name string
		put  func(*testing.T, *scene)
		want code.Code
		root string
	}{
		{"both, in different formats", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()), testsign.Bundle(t, s.other, s.digest()))
		}, code.OK, "team-key,other"},
		{"one on the manifest, one on the index", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()))
			s.putFor(t, s.index, testsign.Attachment(t, s.other, repository, s.request.Index))
		}, code.OK, "team-key,other"},
		{"only the first", func(t *testing.T, s *scene) { s.put(t, testsign.Attachment(t, s.key, repository, s.digest())) },
			code.BadSignature, ""},
		{"only the second", func(t *testing.T, s *scene) { s.put(t, testsign.Bundle(t, s.other, s.digest())) }, code.BadSignature, ""},
		{"none", func(*testing.T, *scene) {}, code.Unsigned, ""},
		{"the second for another image", func(t *testing.T, s *scene) {
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()), testsign.Bundle(t, s.other, s.request.Config))
		}, code.OtherImage, ""},
		{"the second revoked", func(t *testing.T, s *scene) {
			s.doc.Keys = []string{s.other.Fingerprint}
			s.put(t, testsign.Attachment(t, s.key, repository, s.digest()), testsign.Bundle(t, s.other, s.digest()))
		}, code.Revoked, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.doc.Roots["other"] = []testsign.Key{s.other}
			s.doc.Scopes[repository] = map[string]any{"allOf": []string{"team-key", "other"}}
			test.put(t, s)
			o := s.judge(t)
			if test.want == code.OK {
				allowed(t, o, code.OK)
			} else {
				refused(t, o, test.want, "")
			}
			if o.Root != test.root {
				t.Errorf("roots %q, want %q", o.Root, test.root)
			}
			for _, line := range o.Details {
				if test.name == "only the first" && strings.Contains(line, "root team-key") {
					t.Errorf("a root that is satisfied is explained: %s", line)
				}
			}
		})
	}
}

func TestRegistryIsAskedWhereTheStoreIsNotEnough(t *testing.T) {
	s := newScene(t)
	s.put(t, testsign.Attachment(t, s.other, repository, s.digest()))
	s.registry.sets[s.digest()] = setOf(s.manifest, testsign.Attachment(t, s.key, repository, s.digest()))
	o := s.judge(t)
	allowed(t, o, code.OK)
	if o.Source != "registry" || s.registry.asked.Load() != 2 {
		t.Errorf("source %s, asked %d", o.Source, s.registry.asked.Load())
	}
	hash, err := s.store.Hash(repository, s.request.Manifest, s.request.Index)
	if err != nil || hash != o.EvidenceHash {
		t.Errorf("evidence hash %s, the store says %s, %v", o.EvidenceHash, hash, err)
	}
	s.registry = nil
	if o = s.judge(t); !o.Allow || o.Source != "store" {
		t.Errorf("offline: %s from %s", o.Code, o.Source)
	}
}

func TestANewSignatureFindsRoomInAnEntryFullOfJunk(t *testing.T) {
	s := newScene(t)
	var junk []any
	for i := range 64 {
		junk = append(junk, testsign.AttachmentOf(t, s.other, fmt.Append(nil, i)))
	}
	s.put(t, junk...)
	s.registry.sets[s.digest()] = setOf(s.manifest, testsign.Attachment(t, s.key, repository, s.digest()))
	allowed(t, s.judge(t), code.OK)
	s.registry = nil
	allowed(t, s.judge(t), code.OK)
}

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

func TestManifestOnTheNodeSavesAQuestion(t *testing.T) {
	s := newScene(t)
	set := setOf(s.manifest, testsign.Attachment(t, s.key, repository, s.digest()))
	set.Manifest = nil // as evidence that was dropped without it
	if err := s.store.Put(set, false); err != nil {
		t.Fatal(err)
	}
	s.registry = nil
	if o := s.judge(t); o.Allow {
		t.Fatal("an attachment was accepted without the manifest")
	}
	s.request.Raw = map[string][]byte{s.digest(): s.manifest}
	allowed(t, s.judge(t), code.OK)
	s.request.Raw = map[string][]byte{s.digest(): s.index}
	refused(t, s.judge(t), code.Tampered, "the manifest has digest")
}

func TestOneDigestUnderTwoScopes(t *testing.T) {
	s := newScene(t)
	s.doc.Roots["other"] = []testsign.Key{s.other}
	s.doc.Scopes["registry.example/strict"] = map[string]any{"anyOf": []string{"other"}}
	s.put(t, testsign.Bundle(t, s.key, s.digest()))
	allowed(t, s.judge(t), code.OK)
	s.request.Repository = "registry.example/strict"
	s.registry.sets[s.digest()] = setOf(s.manifest, testsign.Bundle(t, s.key, s.digest()))
	refused(t, s.judge(t), code.BadSignature, "")
	// A bundle names no repository: copied, it counts wherever its root is trusted.
	s.doc.Scopes["registry.example/strict"] = map[string]any{"anyOf": []string{"team-key"}}
	allowed(t, s.judge(t), code.OK)
}

func TestSignatureOfTheIndexAloneDoesNotCountWithoutIt(t *testing.T) {
	s := newScene(t)
	s.putFor(t, s.index, testsign.Bundle(t, s.key, s.request.Index))
	allowed(t, s.judge(t), code.OK)
	s.request.Index = ""
	refused(t, s.judge(t), code.Unsigned, "")
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
