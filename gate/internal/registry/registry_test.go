package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// world is a registry and what is in it.
type world struct {
	pusher     testsign.Pusher
	repository string
	digest     string
	key        testsign.Key
	config     registry.Config
}

// newWorld serves a registry behind wrap, which stands between it and clients.
func newWorld(t testing.TB, referrers bool, wrap func(http.Handler) http.Handler) *world {
	t.Helper()
	handler := testsign.Handler(referrers)
	w := &world{pusher: testsign.Pusher{Handler: handler, Path: "demo/app"}, key: testsign.NewKey(t)}
	if wrap != nil {
		handler = wrap(handler)
	}
	w.repository = testsign.Serve(t, handler) + "/demo/app"
	w.digest = w.pusher.Image(t, "image")
	return w
}

func (w *world) fetch(t testing.TB) (evidence.Set, error) {
	t.Helper()
	return registry.New(w.config).Fetch(t.Context(), w.repository, w.digest, nil)
}

// push puts one signature in each format.
func (w *world) push(t testing.TB, fallback bool) {
	t.Helper()
	w.pusher.Attachments(t, w.digest, testsign.Attachment(t, w.key, w.repository, w.digest))
	w.pusher.Bundles(t, w.digest, fallback, testsign.Bundle(t, w.key, w.digest))
}

// complete checks that the set has what push put there.
func complete(t *testing.T, set evidence.Set, err error) {
	t.Helper()
	if err != nil || len(set.Attachments) != 1 || len(set.Bundles) != 1 || len(set.Problems) != 0 || set.Manifest == nil {
		t.Errorf("%d attachments, %d bundles, manifest %v, problems %v, %v",
			len(set.Attachments), len(set.Bundles), set.Manifest != nil, set.Problems, err)
	}
}

func fails(t *testing.T, err error, want code.Code, saying string) {
	t.Helper()
	var refusal *code.Refusal
	if !errors.As(err, &refusal) || refusal.Code != want || !strings.Contains(refusal.Error(), saying) {
		t.Fatalf("got %v, want %s with %q", err, want, saying)
	}
}

func problem(t *testing.T, set evidence.Set, want code.Code, saying string) {
	t.Helper()
	for _, p := range set.Problems {
		if p.Code == want && strings.Contains(p.Error(), saying) {
			return
		}
	}
	t.Errorf("no %s with %q among %v", want, saying, set.Problems)
}

func TestFetchFindsBothFormats(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprint("referrers API ", referrers), func(t *testing.T) {
			w := newWorld(t, referrers, nil)
			w.push(t, !referrers)
			set, err := w.fetch(t)
			complete(t, set, err)
			if testsign.Digest(set.Manifest) != w.digest || set.Repository != w.repository || set.Digest != w.digest {
				t.Errorf("got %+v", set)
			}
		})
	}
}

func TestCapabilitiesThatDoNotNameReferrersHideNoBundle(t *testing.T) {
	for _, capabilities := range []string{`"pull", "resolve"`, `"pull", "resolve", "referrers"`} {
		t.Run(capabilities, func(t *testing.T) {
			w := newWorld(t, true, nil)
			w.push(t, false)
			host, _, _ := strings.Cut(w.repository, "/")
			w.config.CertsDir = t.TempDir()
			write(t, filepath.Join(w.config.CertsDir, host, "hosts.toml"),
				fmt.Sprintf("server = \"http://%s\"\ncapabilities = [%s]\n", host, capabilities), 0o644)
			set, err := w.fetch(t)
			complete(t, set, err)
		})
	}
}

func TestAbsenceIsNoError(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		w := newWorld(t, referrers, nil)
		if set, err := w.fetch(t); err != nil || !set.Empty() || len(set.Problems) != 0 {
			t.Errorf("got %+v, %v", set, err)
		}
		w.repository += "/missing"
		if set, err := w.fetch(t); err != nil || !set.Empty() || len(set.Problems) != 0 {
			t.Errorf("a repository that is not there: %+v, %v", set, err)
		}
	}
}

func TestReferrersCountByTheirOwnType(t *testing.T) {
	w := newWorld(t, false, nil)
	bundle := testsign.Bundle(t, w.key, w.digest)
	second := testsign.BundleOf(t, w.key, testsign.Statement(w.digest, "https://spdx.dev/Document"))
	byManifest := w.pusher.Referrer(t, w.digest, testsign.BundleType, bundle.JSON) // listed with the type of the empty config
	byConfig := w.pusher.Referrer(t, w.digest, "", second.JSON)
	byConfig.ArtifactType = "application/vnd.example"
	sbom := w.pusher.Referrer(t, w.digest, "application/spdx+json", []byte("{}"))
	sbom.ArtifactType = testsign.BundleType // a list that lies
	elsewhere := w.pusher.Referrer(t, testsign.Digest([]byte("x")), testsign.BundleType, bundle.JSON)
	gone := w.pusher.Referrer(t, w.digest, testsign.BundleType, []byte("gone"))
	w.pusher.Fallback(t, w.digest, byManifest, byConfig, sbom, elsewhere, gone)
	w.pusher.Delete(t, gone.Digest)
	set, err := w.fetch(t)
	if err != nil || len(set.Bundles) != 2 {
		t.Errorf("%d bundles, %v", len(set.Bundles), err)
	}
	problem(t, set, code.Malformed, "another subject")
	if len(set.Problems) != 1 {
		t.Errorf("problems %v", set.Problems)
	}
}

func TestReferrersInPages(t *testing.T) {
	var w *world
	var pages []testsign.Descriptor
	w = newWorld(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				next.ServeHTTP(rw, r)
				return
			}
			page := 0
			fmt.Sscan(r.URL.Query().Get("page"), &page)
			rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			if page+1 < len(pages) {
				rw.Header().Set("Link", fmt.Sprintf(`<http://elsewhere.invalid%s?page=%d>; rel="next"`, r.URL.Path, page+1))
			}
			json.NewEncoder(rw).Encode(map[string]any{"manifests": pages[page : page+1]})
		})
	})
	for i := range 3 {
		pages = append(pages, w.pusher.Referrer(t, w.digest, testsign.BundleType, fmt.Append(nil, i)))
	}
	if set, err := w.fetch(t); err != nil || len(set.Bundles) != 3 || len(set.Problems) != 0 {
		t.Errorf("%d bundles, %v, %v", len(set.Bundles), set.Problems, err)
	}
}

func TestKnownManifestIsNotAskedFor(t *testing.T) {
	var asked atomic.Int32
	w := newWorld(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			next.ServeHTTP(rw, r)
		})
	})
	set, err := registry.New(w.config).Fetch(t.Context(), w.repository, w.digest, testsign.Manifest("image"))
	if err != nil || set.Manifest == nil || asked.Load() != 3 { // .sig, referrers, fallback tag
		t.Errorf("%d questions, %v", asked.Load(), err)
	}
}

func TestManifest(t *testing.T) {
	w := newWorld(t, true, nil)
	c := registry.New(w.config)
	for _, reference := range []string{"latest", w.digest} {
		m, err := c.Manifest(t.Context(), w.repository, reference)
		if err != nil || m.Digest != w.digest || m.MediaType != "application/vnd.oci.image.manifest.v1+json" {
			t.Errorf("%s: %+v, %v", reference, m, err)
		}
	}
	_, err := c.Manifest(t.Context(), w.repository, "missing")
	fails(t, err, code.RegistryError, "has no missing")
	_, err = c.Manifest(t.Context(), "not a repository", "latest")
	fails(t, err, code.BadReference, "")
}

func BenchmarkFetch(b *testing.B) {
	w := newWorld(b, true, nil)
	w.push(b, false)
	host, _, _ := strings.Cut(w.repository, "/")
	w.config.CertsDir = b.TempDir()
	write(b, filepath.Join(w.config.CertsDir, host, "hosts.toml"), fmt.Sprintf("server = \"http://%s\"\n", host), 0o644)
	known := testsign.Manifest("image") // as at a container start, where the node has it
	for b.Loop() {
		if set, err := registry.New(w.config).Fetch(b.Context(), w.repository, w.digest, known); err != nil || len(set.Bundles) != 1 {
			b.Fatal(err)
		}
	}
}
