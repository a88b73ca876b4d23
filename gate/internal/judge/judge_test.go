package judge_test

import (
	"fmt"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

// No scope could ever match what has no name.
func TestWhatAnImageOutsideOfEveryScopeIsTold(t *testing.T) {
	for repository, remedy := range map[string]string{"": "name the image in full", "registry.example/application": "add a scope"} {
		t.Run(remedy, func(t *testing.T) {
			s := newScene(t)
			s.request.Repository = repository
			o := s.judge(t)
			refused(t, o, code.NoScope, "")
			if !strings.Contains(o.Refusal.Do, remedy) {
				t.Errorf("got %q", o.Refusal.Do)
			}
		})
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
			if _, hash, err := s.store.Read(repository, s.request.Manifest, s.request.Index); err != nil || hash != o.EvidenceHash {
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

func TestWhatTheCallerHasReadIsNotReadAgain(t *testing.T) {
	s := newScene(t)
	read := setOf(s.manifest, testsign.Bundle(t, s.key, s.digest()))
	read.Repository, read.Digest = repository, s.digest()
	s.request.Stored = map[string]evidence.Set{s.digest(): read} // and the store itself is empty
	o := s.judge(t)
	allowed(t, o, code.OK)
	if o.Source != "store" || s.registry.asked.Load() > 0 {
		t.Errorf("from %s, the registry was asked %d times", o.Source, s.registry.asked.Load())
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
	_, hash, err := s.store.Read(repository, s.request.Manifest, s.request.Index)
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
