package judge_test

import (
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// The whole way: a registry, the store, a verdict; then the registry goes away.
func TestFromTheRegistryAndThenOffline(t *testing.T) {
	for _, format := range []string{"attachment", "bundle"} {
		for _, referrers := range []bool{true, false} {
			name := format + " without the referrers API"
			if referrers {
				name = format + " with the referrers API"
			}
			t.Run(name, func(t *testing.T) {
				key := testsign.NewKey(t)
				handler := testsign.Handler(referrers)
				server := httptest.NewServer(handler)
				defer server.Close()
				repository := strings.TrimPrefix(server.URL, "http://") + "/demo/app"
				pusher := testsign.Pusher{Handler: handler, Path: "demo/app"}
				r := judge.Request{Repository: repository, Manifest: pusher.Image(t, "image")}
				p := testsign.PolicyDoc{
					Roots:  map[string][]testsign.Key{"team-key": {key}},
					Scopes: map[string]any{repository: map[string]any{"anyOf": []string{"team-key"}}},
				}.Parse(t)
				store, err := evidence.Open(evidence.Config{Dir: filepath.Join(t.TempDir(), "evidence")})
				if err != nil {
					t.Fatal(err)
				}
				defer store.Flush()
				j := judge.New(evidence.Collector{Store: store, Registry: registry.New(registry.Config{})})

				refused(t, j.Judge(t.Context(), p, r), code.Unsigned, "")
				if format == "bundle" {
					pusher.Bundles(t, r.Manifest, !referrers, testsign.Bundle(t, key, r.Manifest))
				} else {
					pusher.Attachments(t, r.Manifest, testsign.Attachment(t, key, repository, r.Manifest))
				}
				o := j.Judge(t.Context(), p, r)
				allowed(t, o, code.OK)
				if o.Source != "registry" || o.Format != format || o.StoreError != nil {
					t.Errorf("got %+v", o)
				}

				server.Close()
				o = j.Judge(t.Context(), p, r)
				allowed(t, o, code.OK)
				if o.Source != "store" {
					t.Errorf("source %s", o.Source)
				}
				r.Manifest = testsign.Digest([]byte("never seen"))
				refused(t, j.Judge(t.Context(), p, r), code.NoEvidenceOffline, "cannot be reached")
			})
		}
	}
}

func BenchmarkJudgeFromTheRegistry(b *testing.B) {
	key := testsign.NewKey(b)
	handler := testsign.Handler(true)
	repository := testsign.Serve(b, handler) + "/demo/app"
	host, _, _ := strings.Cut(repository, "/")
	pusher := testsign.Pusher{Handler: handler, Path: "demo/app"}
	r := judge.Request{Repository: repository, Manifest: pusher.Image(b, "image"), Index: pusher.Image(b, "index")}
	r.Raw = map[string][]byte{r.Manifest: testsign.Manifest("image"), r.Index: testsign.Manifest("index")}
	for _, digest := range []string{r.Manifest, r.Index} {
		pusher.Attachments(b, digest, testsign.Attachment(b, key, repository, digest))
		pusher.Bundles(b, digest, false, testsign.Bundle(b, key, digest))
	}
	certs := b.TempDir()
	writeHosts(b, filepath.Join(certs, host), "server = \"http://"+host+"\"\n")
	p := testsign.PolicyDoc{
		Roots:  map[string][]testsign.Key{"team-key": {key}},
		Scopes: map[string]any{repository: map[string]any{"anyOf": []string{"team-key"}}},
	}.Parse(b)
	stores := filepath.Join(b.TempDir(), "evidence")
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		store, err := evidence.Open(evidence.Config{Dir: filepath.Join(stores, strconv.Itoa(i))})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		j := judge.New(evidence.Collector{Store: store, Registry: registry.New(registry.Config{CertsDir: certs})})
		if o := j.Judge(b.Context(), p, r); !o.Allow || o.Source != "registry" {
			b.Fatal(o.Code)
		}
		b.StopTimer()
		store.Flush()
		b.StartTimer()
	}
}
