package registry_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
)

// mirrored puts a mirror before the registry of w, behind wrap. What it has is its
// own.
func (w *world) mirrored(t *testing.T, wrap func(http.Handler) http.Handler) testsign.Pusher {
	t.Helper()
	handler := testsign.Handler(true)
	hosts := filepath.Join(w.config.CertsDir, "fallback.test", "hosts.toml")
	good, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	write(t, hosts, fmt.Sprintf("%s[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\", \"referrers\"]\n", good, testsign.Serve(t, wrap(handler))), 0o644)
	return testsign.Pusher{Handler: handler, Path: w.pusher.Path}
}

func TestWhatAnyHostHasCounts(t *testing.T) {
	w := secure(t, plain)
	mirror := w.mirrored(t, plain)
	old := testsign.Attachment(t, testsign.NewKey(t), w.repository, w.digest)
	mirror.Image(t, "image")
	mirror.Attachments(t, w.digest, old)
	mirror.Fallback(t, w.digest, mirror.SignatureReferrer(t, w.digest, testsign.Attachment(t, testsign.NewKey(t), w.repository, w.digest)))
	set, err := w.fetch(t)
	if err != nil || len(set.Attachments) != 3 || len(set.Bundles) != 1 || len(set.Problems) != 0 {
		t.Errorf("%d attachments, %d bundles, %v, %v", len(set.Attachments), len(set.Bundles), set.Problems, err)
	}
}

func TestAHostThatFailsLeavesItOpenWhetherThereIsMore(t *testing.T) {
	for _, test := range []struct {
		name   string
		mirror http.HandlerFunc
		want   code.Code
	}{
		{"has nothing", func(w http.ResponseWriter, _ *http.Request) { answer(w, 404, "") }, code.OK},
		{"is silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, code.NoEvidenceOffline},
		{"fails", func(w http.ResponseWriter, _ *http.Request) { answer(w, 502, "") }, code.RegistryError},
		{"wants a login", func(w http.ResponseWriter, _ *http.Request) { answer(w, 403, "") }, code.RegistryAuth},
		{"answers with a page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			answer(w, 200, "<html>")
		}, code.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := secure(t, plain)
			w.config.Timeout = 600 * time.Millisecond
			w.mirrored(t, func(http.Handler) http.Handler { return test.mirror })
			set, err := w.fetch(t)
			if len(set.Attachments) != 1 || len(set.Bundles) != 1 || set.Manifest == nil {
				t.Errorf("%d attachments, %d bundles, manifest %v", len(set.Attachments), len(set.Bundles), set.Manifest != nil)
			}
			if test.want == code.OK {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			fails(t, err, test.want, "")
		})
	}
}

func TestTheAPIAndTheTagBothCount(t *testing.T) {
	w := newWorld(t, true, nil)
	w.pusher.Bundles(t, w.digest, false, testsign.Bundle(t, w.key, w.digest)) // the API lists it by its subject
	unlisted := w.pusher.Referrer(t, testsign.Digest([]byte("x")), testsign.BundleType, []byte("{}"))
	w.pusher.Fallback(t, w.digest, unlisted)
	set, err := w.fetch(t)
	if err != nil || len(set.Bundles) != 1 {
		t.Errorf("%d bundles, %v", len(set.Bundles), err)
	}
	problem(t, set, code.Malformed, "another subject") // so the tag was read too
}

// oddReferrers answers what lists referrers, and nothing else.
func oddReferrers(list http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") || r.URL.Path == "/-/web" {
				list(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func TestOddRegistries(t *testing.T) {
	empty := oddReferrers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		answer(w, 200, `{"schemaVersion":2,"manifests":[]}`)
	})
	limited := oddReferrers(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/-/web" {
			http.Redirect(w, r, "/-/web", http.StatusSeeOther)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		answer(w, 429, "<html>slow down</html>")
	})
	tagAsDigest := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if before, tag, ok := strings.Cut(r.URL.Path, "/manifests/sha256-"); ok && len(tag) == 64 {
				r.URL.Path = before + "/manifests/sha256:" + tag
			}
			next.ServeHTTP(w, r)
		})
	}
	for _, test := range []struct {
		name string
		wrap func(http.Handler) http.Handler
		want code.Code
	}{
		{"an API that is always empty", empty, code.OK},
		{"an API that leads to a page that is limited", limited, code.RegistryError},
		{"a tag that is read as a digest", tagAsDigest, code.OK},
	} {
		for _, signed := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, ", signed ", signed), func(t *testing.T) {
				w := newWorld(t, false, test.wrap)
				if signed {
					w.pusher.Attachments(t, w.digest, testsign.Attachment(t, w.key, w.repository, w.digest))
				}
				set, err := w.fetch(t)
				if (len(set.Attachments) == 1) != signed || len(set.Problems) != 0 {
					t.Errorf("%d attachments, problems %v", len(set.Attachments), set.Problems)
				}
				if test.want == code.OK && err != nil {
					t.Errorf("got %v", err)
				}
				if test.want != code.OK {
					fails(t, err, test.want, "429")
				}
			})
		}
	}
}

func TestAnIndexBehindATagThatIsReadAsADigestListsNoReferrers(t *testing.T) {
	child := "sha256:" + strings.Repeat("0", 64)
	index := []byte(`{"schemaVersion":2,"manifests":[{"digest":"` + child + `"}]}`)
	for _, odd := range []bool{true, false} {
		var asked atomic.Int32
		w := newWorld(t, false, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, child) {
					asked.Add(1)
				}
				if before, tag, ok := strings.Cut(r.URL.Path, "/manifests/sha256-"); odd && ok && len(tag) == 64 {
					r.URL.Path = before + "/manifests/sha256:" + tag
				}
				next.ServeHTTP(rw, r)
			})
		})
		if odd {
			w.digest = testsign.Digest(index)
		}
		w.pusher.Manifest(t, index, "application/vnd.oci.image.index.v1+json", testsign.Tag(w.digest))
		set, err := w.fetch(t)
		if err != nil || !set.Empty() || len(set.Problems) != 0 || (asked.Load() > 0) == odd {
			t.Errorf("odd %v: problems %v, %v, asked %d times for what it lists", odd, set.Problems, err, asked.Load())
		}
	}
}

func TestSignaturesThatAreReferrers(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprint("referrers API ", api), func(t *testing.T) {
			w := newWorld(t, api, nil)
			good := testsign.Attachment(t, w.key, w.repository, w.digest)
			d := w.pusher.SignatureReferrer(t, w.digest, good, testsign.Attachment(t, testsign.NewKey(t), w.repository, w.digest))
			elsewhere := w.pusher.SignatureReferrer(t, testsign.Digest([]byte("x")), good)
			if !api {
				w.pusher.Fallback(t, w.digest, d, elsewhere)
			}
			set, err := w.fetch(t)
			if err != nil || len(set.Attachments) != 2 || set.Attachments[0].ID() != good.ID() && set.Attachments[1].ID() != good.ID() {
				t.Errorf("%d attachments, %v", len(set.Attachments), err)
			}
			if !api {
				problem(t, set, code.Malformed, "another subject")
			}
		})
	}
}

// A line of hosts.toml that leads nowhere hides nothing of the others, and nobody is called
// silent for it.
func TestAHostThatIsNobodyIsNotAsked(t *testing.T) {
	for name, host := range map[string]string{"without a name": "", "of another protocol": "httpx://mirror.example", "without a host": "http:///path"} {
		t.Run(name, func(t *testing.T) {
			w := secure(t, plain)
			hosts := filepath.Join(w.config.CertsDir, "fallback.test", "hosts.toml")
			good, err := os.ReadFile(hosts)
			if err != nil {
				t.Fatal(err)
			}
			write(t, hosts, fmt.Sprintf("%s[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", good, host), 0o644)
			set, err := w.fetch(t)
			complete(t, set, err)
		})
	}
}
