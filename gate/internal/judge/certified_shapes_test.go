package judge_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

// Signatures of cosign 3.1.1, as bundle (Rekor v2 and timestamp, Rekor v1) and as
// attachment (Rekor v1), and of sigstore-python 4.5.1.
func TestKeylessSignaturesOfOthers(t *testing.T) {
	const lab, person = "http://127.0.0.1:5720/gha", "http://127.0.0.1:5720/email"
	const release = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/*"
	tests := []struct {
		name, folder, repository, trusted, issuer, subject string
		require                                            map[string]int
		want                                               code.Code
	}{
		{"cosign with Rekor v2", "cosign-bundle-keyless-full", "127.0.0.1:5711/demo/any", "tr-ct.json", lab, release, nil, code.OK},
		{"cosign with Rekor v2, another ref", "cosign-bundle-keyless-full", "127.0.0.1:5711/demo/any", "tr-ct.json", lab,
			strings.Replace(release, "heads", "tags", 1), nil, code.WrongIdentity},
		{"sigstore-python with Rekor v2", "sigstore-python-bundle-via-oras", "127.0.0.1:5711/demo/any", "tr-ct.json", lab, release, nil, code.OK},
		{"cosign with Rekor v1", "cosign-bundle-keyless-rekor1", "127.0.0.1:5711/demo/any", "tr-v1.json", person, "alice@example.test", nil, code.OK},
		{"cosign with Rekor v1, another log trusted", "cosign-bundle-keyless-rekor1", "127.0.0.1:5711/demo/any", "tr-ct.json", person, "alice@example.test", nil, code.NoTrustedTime},
		{"attachment of a workflow", "cosign-legacy-keyless-rekor1-gha", "127.0.0.1:5711/demo/kl-leg-gha", "tr-v1.json", lab, release, nil, code.OK},
		{"attachment of a person", "cosign-legacy-keyless-rekor1-email", "127.0.0.1:5711/demo/kl-leg-email", "tr-v1.json",
			person, "alice@example.test", nil, code.OK},
		{"attachment in another repository", "cosign-legacy-keyless-rekor1-gha", "127.0.0.1:5711/demo/copy", "tr-v1.json", lab, release, nil, code.OtherImage},
		{"Fulcio and nothing else", "cosign-bundle-keyless-fulcio-only", "127.0.0.1:5711/demo/any", "tr-fulcio-only.json", lab, release,
			map[string]int{"time": 0}, code.Expired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			set := shape(t, test.folder)
			root := map[string]any{"issuer": test.issuer, "subject": test.subject, "trustedRoot": []any{json.RawMessage(readFile(t, test.trusted))}}
			if test.require != nil {
				root["require"] = test.require
			}
			doc := testsign.PolicyDoc{Others: map[string]any{"release": map[string]any{"keyless": root}},
				Scopes: map[string]any{test.repository: map[string]any{"anyOf": []string{"release"}}}}
			o := judgeShape(t, doc, set, test.repository)
			if o.Code != test.want {
				t.Errorf("got %s, want %s: %q", o.Code, test.want, o.Details)
			}
		})
	}
}

func judgeShape(t *testing.T, doc testsign.PolicyDoc, set evidence.Set, repository string) judge.Outcome {
	t.Helper()
	registry := &fakeRegistry{sets: map[string]evidence.Set{cosignDigest: set}}
	return judge.New(evidence.Collector{Registry: registry}).Judge(t.Context(), doc.Parse(t), judge.Request{Repository: repository, Manifest: cosignDigest})
}

// shape reads what a registry served.
func shape(t testing.TB, folder string) evidence.Set {
	t.Helper()
	set := evidence.Set{Manifest: readFile(t, "image/manifest.json")}
	if !strings.Contains(folder, "legacy") {
		set.Bundles = []evidence.Bundle{{JSON: readFile(t, folder+"/bundle.json")}}
		return set
	}
	var manifest struct {
		Layers []struct {
			MediaType   string
			Annotations map[string]string
		}
	}
	if err := json.Unmarshal(readFile(t, folder+"/manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	set.Attachments = []evidence.Attachment{{MediaType: manifest.Layers[0].MediaType, Annotations: manifest.Layers[0].Annotations,
		Payload: readFile(t, folder+"/payload.json")}}
	return set
}

// What a keyless verdict costs beside a keyed one (BenchmarkJudgeFromTheStore).
func BenchmarkJudgeCertificates(b *testing.B) {
	for _, test := range []struct{ folder, repository, trusted, issuer, subject string }{
		{"cosign-bundle-keyless-full", "127.0.0.1:5711/demo/any", "tr-ct.json", "http://127.0.0.1:5720/gha",
			"https://github.com/acme/app/.github/workflows/release.yml@refs/heads/*"},
		{"cosign-legacy-keyless-rekor1-email", "127.0.0.1:5711/demo/kl-leg-email", "tr-v1.json", "http://127.0.0.1:5720/email", "alice@example.test"},
	} {
		b.Run(test.folder, func(b *testing.B) {
			p := testsign.PolicyDoc{
				Others: map[string]any{"release": map[string]any{"keyless": map[string]any{"issuer": test.issuer, "subject": test.subject,
					"trustedRoot": []any{json.RawMessage(readFile(b, test.trusted))}}}},
				Scopes: map[string]any{test.repository: map[string]any{"anyOf": []string{"release"}}},
			}.Parse(b)
			store, err := evidence.Open(evidence.Config{Dir: filepath.Join(b.TempDir(), "evidence")})
			if err != nil {
				b.Fatal(err)
			}
			set := shape(b, test.folder)
			set.Repository, set.Digest = test.repository, cosignDigest
			if err := store.Put(set, false); err != nil {
				b.Fatal(err)
			}
			j := judge.New(evidence.Collector{Store: store})
			for b.Loop() {
				if o := j.Judge(b.Context(), p, judge.Request{Repository: test.repository, Manifest: cosignDigest}); !o.Allow {
					b.Fatal(o.Code, o.Details)
				}
			}
		})
	}
}

// Whatever a registry serves beside a certificate, judging ends in a typed refusal.
func FuzzCertificates(f *testing.F) {
	a := testsign.NewAuthority(f) // which has issued nothing
	for _, folder := range []string{"cosign-legacy-keyless-rekor1-gha", "cosign-legacy-byo-pki-with-chain"} {
		attached := shape(f, folder).Attachments[0]
		f.Add(attached.Payload, attached.Annotations[testsign.SignatureAnnotation], attached.Annotations["dev.sigstore.cosign/certificate"],
			attached.Annotations["dev.sigstore.cosign/chain"], attached.Annotations["dev.sigstore.cosign/bundle"], "",
			readFile(f, "cosign-bundle-keyless-full/bundle.json"))
	}
	p := testsign.PolicyDoc{
		Others: map[string]any{
			"release": map[string]any{"keyless": map[string]any{"issuer": "https://i", "subject": "x@acme.example", "trustedRoot": []any{a.TrustedRoot(f)}}},
			"corp": map[string]any{"pki": map[string]any{"roots": []string{testsign.CertificatePEM(a.Root)}, "email": "x@acme.example",
				"timestampRoots": []string{a.TimestampPEM()}}},
		},
		Scopes: map[string]any{cosignRepository: map[string]any{"anyOf": []string{"release", "corp"}}},
	}.Parse(f)
	f.Fuzz(func(t *testing.T, payload []byte, signature, certificate, chain, entry, timestamp string, bundle []byte) {
		annotations := map[string]string{testsign.SignatureAnnotation: signature, "dev.sigstore.cosign/certificate": certificate,
			"dev.sigstore.cosign/chain": chain, "dev.sigstore.cosign/bundle": entry, "dev.sigstore.cosign/rfc3161timestamp": timestamp}
		registry := &fakeRegistry{sets: map[string]evidence.Set{cosignDigest: {Bundles: []evidence.Bundle{{JSON: bundle}},
			Attachments: []evidence.Attachment{{MediaType: testsign.SimpleSigning, Payload: payload, Annotations: annotations}}}}}
		o := judge.New(evidence.Collector{Registry: registry}).Judge(t.Context(), p, judge.Request{Repository: cosignRepository, Manifest: cosignDigest})
		if o.Allow || o.Code == "" || o.Code.Allows() || o.Refusal == nil {
			t.Errorf("got %+v", o)
		}
	})
}
