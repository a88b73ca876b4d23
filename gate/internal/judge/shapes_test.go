package judge_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The files in testdata are what cosign 3.1.1 pushed for the image in
// testdata/image, as the registry served it.
const (
	cosignRepository = "127.0.0.1:5711/demo/key" // that cosign's attachment names
	cosignDigest     = "sha256:f65c71f08983e4aabca236fb4813b36c58db9eb4798339860d9d0c15206e5074"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func cosignSet(t testing.TB) evidence.Set {
	t.Helper()
	var manifest ocispec.Manifest
	if err := json.Unmarshal(readFile(t, "cosign-legacy-key/manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	return evidence.Set{
		Repository: cosignRepository, Digest: cosignDigest, Manifest: readFile(t, "image/manifest.json"),
		Attachments: []evidence.Attachment{{MediaType: manifest.Layers[0].MediaType, Annotations: manifest.Layers[0].Annotations,
			Payload: readFile(t, "cosign-legacy-key/payload.json")}},
		Bundles: []evidence.Bundle{{JSON: readFile(t, "cosign-bundle-key/bundle.json")}},
	}
}

func TestSignaturesOfCosignItself(t *testing.T) {
	tests := []struct {
		name       string
		change     func(*evidence.Set)
		repository string
		want       code.Code
	}{
		{"attachment", func(s *evidence.Set) { s.Bundles = nil }, cosignRepository, code.OK},
		{"attachment in another repository", func(s *evidence.Set) { s.Bundles = nil }, "127.0.0.1:5711/demo/copy", code.OtherImage},
		{"attachment with one letter changed", func(s *evidence.Set) {
			s.Bundles, s.Attachments[0].Payload = nil, bytes.Replace(s.Attachments[0].Payload, []byte("demo/key"), []byte("demo/kez"), 1)
		}, "127.0.0.1:5711/demo/kez", code.BadSignature},
		{"bundle", func(s *evidence.Set) { s.Attachments = nil }, cosignRepository, code.OK},
		{"bundle in another repository", func(s *evidence.Set) { s.Attachments = nil }, "127.0.0.1:5711/demo/copy", code.OK},
		{"both", func(*evidence.Set) {}, cosignRepository, code.OK},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			set := cosignSet(t)
			set.Repository = test.repository
			test.change(&set)
			store, err := evidence.Open(evidence.Config{Dir: filepath.Join(t.TempDir(), "evidence")})
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Put(set, false); err != nil {
				t.Fatal(err)
			}
			o := judge.New(evidence.Collector{Store: store}).Judge(t.Context(), cosignPolicy(t),
				judge.Request{Repository: test.repository, Manifest: cosignDigest})
			if o.Code != test.want {
				t.Errorf("got %s, want %s: %q", o.Code, test.want, o.Details)
			}
		})
	}
}

func cosignPolicy(t testing.TB) *policy.Policy {
	t.Helper()
	return testsign.PolicyDoc{
		Roots:  map[string][]testsign.Key{"k": {{PEM: string(readFile(t, "k.pub"))}}},
		Scopes: map[string]any{"127.0.0.1:5711": map[string]any{"anyOf": []string{"k"}}},
	}.Parse(t)
}

func BenchmarkJudgeFromTheStore(b *testing.B) {
	for _, format := range []string{"attachment", "bundle"} {
		b.Run(format, func(b *testing.B) {
			set := cosignSet(b)
			if format == "attachment" {
				set.Bundles = nil
			} else {
				set.Attachments = nil
			}
			store, err := evidence.Open(evidence.Config{Dir: filepath.Join(b.TempDir(), "evidence")})
			if err != nil {
				b.Fatal(err)
			}
			if err := store.Put(set, false); err != nil {
				b.Fatal(err)
			}
			j, p := judge.New(evidence.Collector{Store: store}), cosignPolicy(b)
			for b.Loop() {
				if o := j.Judge(b.Context(), p, judge.Request{Repository: cosignRepository, Manifest: cosignDigest}); !o.Allow {
					b.Fatal(o.Code)
				}
			}
		})
	}
}

func BenchmarkReadEvidence(b *testing.B) {
	store, err := evidence.Open(evidence.Config{Dir: filepath.Join(b.TempDir(), "evidence")})
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Put(cosignSet(b), true); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := store.Read(cosignRepository, cosignDigest, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func writeHosts(t testing.TB, dir, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Whatever a registry serves, judging ends in a typed refusal.
func FuzzJudge(f *testing.F) {
	set := cosignSet(f)
	f.Add(set.Attachments[0].Payload, set.Attachments[0].Annotations[testsign.SignatureAnnotation], set.Bundles[0].JSON)
	f.Add(readFile(f, "cosign-legacy-key/payload.json"), "", readFile(f, "cosign-bundle-byo-pki/bundle.json"))
	p := testsign.PolicyDoc{
		Roots:  map[string][]testsign.Key{"k": {testsign.NewKey(f)}}, // which has signed nothing
		Scopes: map[string]any{cosignRepository: map[string]any{"anyOf": []string{"k"}}},
	}.Parse(f)
	f.Fuzz(func(t *testing.T, payload []byte, signature string, bundle []byte) {
		registry := &fakeRegistry{sets: map[string]evidence.Set{cosignDigest: {
			Manifest: set.Manifest, Bundles: []evidence.Bundle{{JSON: bundle}},
			Attachments: []evidence.Attachment{{MediaType: testsign.SimpleSigning, Payload: payload,
				Annotations: map[string]string{testsign.SignatureAnnotation: signature}}},
		}}}
		o := judge.New(evidence.Collector{Registry: registry}).Judge(t.Context(), p, judge.Request{Repository: cosignRepository, Manifest: cosignDigest})
		if o.Allow || o.Code == "" || o.Code.Allows() || o.Refusal == nil {
			t.Errorf("got %+v", o)
		}
	})
}
