package registry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// listing serves a list of referrers by the API, in pages of the given size; with
// filter it can leave out other artifact types.
func listing(listed *[]testsign.Descriptor, size int, filter bool) func(http.Handler) http.Handler {
	return oddReferrers(func(w http.ResponseWriter, r *http.Request) {
		var matching []testsign.Descriptor
		wanted := r.URL.Query().Get("artifactType")
		for _, d := range *listed {
			if !filter || wanted == "" || wanted == d.ArtifactType {
				matching = append(matching, d)
			}
		}
		if filter && wanted != "" {
			w.Header().Set("OCI-Filters-Applied", "artifactType")
		}
		from, _ := strconv.Atoi(r.URL.Query().Get("from"))
		to := min(from+size, len(matching))
		if to < len(matching) {
			w.Header().Set("Link", fmt.Sprintf(`<%s?from=%d&artifactType=%s>; rel="next"`, r.URL.Path, to, wanted))
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "manifests": matching[from:to]})
	})
}

func attestation(i int, artifactType string, annotations map[string]string) testsign.Descriptor {
	return testsign.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: testsign.Digest(fmt.Append(nil, i)),
		Size: 800, ArtifactType: artifactType, Annotations: annotations}
}

func TestASignatureAmongTenThousandAttestations(t *testing.T) {
	predicate := func(name string) map[string]string {
		return map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": name, "org.opencontainers.image.created": "2026-11-28T12:00:00Z"}
	}
	for _, test := range []struct {
		name      string
		size      int // of a page
		filter    bool
		otherType string
		other     map[string]string // annotations of the others
		signature map[string]string
		found     bool
		saying    string
	}{
		{"annotated, in pages", 100, false, testsign.BundleType, predicate("https://slsa.dev/provenance/v1"), predicate(testsign.SignPredicate), true, ""},
		{"annotated, in one page", 20_000, false, testsign.BundleType, predicate("https://slsa.dev/provenance/v1"), predicate(testsign.SignPredicate), true, ""},
		{"only the signature is annotated", 1000, false, testsign.BundleType, nil, predicate(testsign.SignPredicate), true, "10001 referrers"},
		{"only the others are", 1000, false, testsign.BundleType, predicate("https://slsa.dev/provenance/v1"), nil, true, ""},
		{"nothing is annotated", 1000, false, testsign.BundleType, nil, nil, false, "10001 referrers"},
		{"of another type, over the pages", 10, false, "application/spdx+json", nil, nil, false, "256 pages"},
		{"of another type, over the pages, filtered", 10, true, "application/spdx+json", nil, nil, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var listed []testsign.Descriptor
			w := newWorld(t, false, listing(&listed, test.size, test.filter))
			w.config.Timeout = 20 * time.Second
			for i := range 10_000 {
				listed = append(listed, attestation(i, test.otherType, test.other))
			}
			d := w.pusher.Referrer(t, w.digest, testsign.BundleType, testsign.Bundle(t, w.key, w.digest).JSON)
			d.ArtifactType, d.Annotations = testsign.BundleType, test.signature
			listed = append(listed, d)
			set, err := w.fetch(t)
			if err != nil || (len(set.Bundles) == 1) != test.found {
				t.Errorf("%d bundles, %v, %v", len(set.Bundles), set.Problems, err)
			}
			if test.saying != "" {
				problem(t, set, code.Malformed, test.saying)
			} else if test.filter == false && len(set.Problems) != 0 {
				t.Errorf("problems %v", set.Problems)
			}
		})
	}
}

// peak gives the largest heap, in bytes, while work runs.
func peak(work func()) uint64 {
	var most atomic.Uint64
	stop := make(chan struct{})
	var wait sync.WaitGroup
	runtime.GC()
	wait.Go(func() {
		var m runtime.MemStats
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapAlloc))
			}
		}
	})
	work()
	close(stop)
	wait.Wait()
	return most.Load()
}

// bomb fills text up to size with what repeats, which is given a number.
func bomb(start, repeat, end string, size int) string {
	var b strings.Builder
	b.WriteString(start)
	for i := 0; b.Len() < size-len(end)-len(repeat)-8; i++ {
		fmt.Fprintf(&b, repeat, i)
	}
	return b.String() + end
}

func TestManyLookUpsOfHostileAnswersFillNoMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(32 << 20)) // as the daemon does
	const mib = 1 << 20
	for name, body := range map[string]string{
		"annotations of the manifest": bomb(`{"layers":[],"manifests":[],"annotations":{"":""`, `,"%x":""`, `}}`, 2*mib),
		"annotations of one entry":    bomb(`{"layers":[{"annotations":{"":""`, `,"%x":""`, `}}]}`, 2*mib),
		"many signatures": bomb(`{"layers":[{}`, `,{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"x","size":1,"annotations":{"a":"%x`+
			strings.Repeat("x", 60<<10)+`"}}`, `]}`, 2*mib),
		"many referrers": bomb(`{"manifests":[{}`, `,{"digest":"%x","artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`, `]}`, 2*mib),
		"deep":           `{"a":` + strings.Repeat("[", 2*mib),
		"one long text":  `{"a":"` + strings.Repeat("x", 2*mib),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.Contains(r.URL.Path, "/manifests/sha256-"), strings.Contains(r.URL.Path, "/referrers/"):
						w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
						io.WriteString(w, body) // which makes no copy
					default:
						answer(w, 404, "")
					}
				})
			})
			w.config.Timeout = 30 * time.Second
			client := registry.New(w.config)
			base := peak(func() { time.Sleep(20 * time.Millisecond) })
			most := peak(func() {
				var wait sync.WaitGroup
				for range 32 {
					wait.Go(func() { _, _ = client.Fetch(t.Context(), w.repository, w.digest, []byte("{}")) })
				}
				wait.Wait()
			})
			t.Logf("32 look-ups at once: %d MiB over %d MiB", (most-min(base, most))/mib, base/mib)
			if most > base+40*mib {
				t.Errorf("%d MiB more than the %d MiB before", (most-base)/mib, base/mib)
			}
		})
	}
}
