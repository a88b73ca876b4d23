package judge_test

import (
	"path/filepath"
	"testing"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

// What one attestation adds to a keyed verdict from the store: provenance of 20 KiB by a
// workflow, with a condition and an age.
func BenchmarkJudgeAttested(b *testing.B) {
	authority, key, manifest := testsign.NewAuthority(b), testsign.NewKey(b), testsign.Manifest("image")
	digest := testsign.Digest(manifest)
	materials := []any{}
	for range 150 {
		materials = append(materials, map[string]any{"uri": "git+https://github.com/acme/app@refs/tags/v1", "digest": map[string]any{"gitCommit": digest}})
	}
	statement := testsign.StatementOf(b, "v1", slsa, map[string]any{"workflow": "release.yml", "materials": materials}, digest)
	signer := authority.Issue(b, testsign.Person{URI: workflow, Issuer: githubIssuer})
	asked := map[string]any{"type": slsa, "by": []string{"release"}, "maxAge": "720h",
		"where": `predicate.workflow == "release.yml" && predicate.materials.all(m, m.uri.startsWith("git+https://github.com/acme/"))`}
	for _, c := range []struct {
		name string
		rule map[string]any
	}{
		{"keyed", map[string]any{"anyOf": []string{"team"}}},
		{"keyed with one attestation", map[string]any{"anyOf": []string{"team"}, "attestations": []any{asked}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := testsign.PolicyDoc{
				Roots: map[string][]testsign.Key{"team": {key}},
				Others: map[string]any{"release": map[string]any{"keyless": map[string]any{"issuer": githubIssuer, "subject": workflowGlob,
					"trustedRoot": []any{authority.TrustedRoot(b)}}}},
				Scopes: map[string]any{repository: c.rule},
			}.Parse(b)
			store, err := evidence.Open(evidence.Config{Dir: filepath.Join(b.TempDir(), "evidence")})
			if err != nil {
				b.Fatal(err)
			}
			set := evidence.Set{Repository: repository, Digest: digest, Manifest: manifest, Bundles: []evidence.Bundle{
				testsign.Bundle(b, key, digest), testsign.CertifiedBundleOf(b, signer.Content(b, statement), testsign.Proof{Log: authority})}}
			if err := store.Put(set, true); err != nil {
				b.Fatal(err)
			}
			j := judge.New(evidence.Collector{Store: store})
			for b.Loop() {
				if o := j.Judge(b.Context(), p, judge.Request{Repository: repository, Manifest: digest}); !o.Allow {
					b.Fatal(o.Code, o.Details)
				}
			}
		})
	}
}
