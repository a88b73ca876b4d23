package registry_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// asked notes the paths that a client asks for.
type asked struct {
	mu    sync.Mutex
	paths []string
}

// RoundTrip implements http.RoundTripper.
func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" { // TLS is tried first, and not spoken there
		a.mu.Lock()
		a.paths = append(a.paths, r.URL.Path)
		a.mu.Unlock()
	}
	return http.DefaultTransport.RoundTrip(r)
}

// since gives what was asked for since the last time.
func (a *asked) since() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	paths := a.paths
	a.paths = nil
	return paths
}

// image is a manifest and its index, with their signatures.
func (w *world) image(t testing.TB, name, form string, on ...int) []evidence.Set {
	t.Helper()
	sets := make([]evidence.Set, 2)
	for i, part := range []string{"manifest", "index"} {
		sets[i] = evidence.Set{Repository: w.repository, Digest: w.pusher.Image(t, name+part), Manifest: testsign.Manifest(name + part)}
	}
	for _, i := range on {
		digest := sets[i].Digest
		if strings.Contains(form, "attachment") {
			w.pusher.Attachments(t, digest, testsign.Attachment(t, w.key, w.repository, digest))
		}
		if strings.Contains(form, "bundle") {
			w.pusher.Bundles(t, digest, strings.Contains(form, "by tag"), testsign.Bundle(t, w.key, digest))
		}
	}
	return sets
}

func anything(found []evidence.Set) bool {
	for _, set := range found {
		if !set.Empty() {
			return true
		}
	}
	return false
}

func wanted(sets []evidence.Set, enough func([]evidence.Set) bool) evidence.Search {
	return evidence.Search{Sets: sets, Tagged: true, Referred: true, Like: "app", Enough: enough}
}

// What an image costs whose like was seen before, and what the first one costs at most.
func TestWhatASearchAsksFor(t *testing.T) {
	for _, test := range []struct {
		form   string
		api    bool
		on     []int
		first  int
		second int
	}{
		{"attachment", false, []int{0, 1}, 3, 1},
		{"attachment", true, []int{1}, 3, 1},
		{"attachment", true, []int{0}, 6, 1},
		{"bundle", true, []int{0, 1}, 5, 3},
		{"bundle by tag", false, []int{0, 1}, 5, 3},
		{"bundle by tag", false, []int{0}, 8, 3},
		{"attachment, bundle by tag", false, []int{0, 1}, 5, 1},
	} {
		t.Run(fmt.Sprint(test.form, " on ", test.on, ", API ", test.api), func(t *testing.T) {
			var log asked
			w := newWorld(t, test.api, nil)
			w.config.Transport = &log
			client := registry.New(w.config)
			for i, most := range []int{test.first, test.second, test.second} {
				sets := w.image(t, fmt.Sprint("image", i), test.form, test.on...)
				found, errs := client.Search(t.Context(), wanted(sets, anything))
				if paths := log.since(); len(paths) > most || !anything(found) || errs[0] != nil || errs[1] != nil {
					t.Errorf("image %d: %d requests, at most %d expected; %v\n%s", i, len(paths), most, errs, strings.Join(paths, "\n"))
				}
			}
		})
	}
}

// An image of one platform has no index: what was enough for it is asked of the next one's.
func TestAnImageWithoutAnIndexIsLikeOneWith(t *testing.T) {
	var log asked
	w := newWorld(t, false, nil)
	w.config.Transport = &log
	client := registry.New(w.config)
	for i, sets := range [][]evidence.Set{w.image(t, "one", "attachment", 1)[1:], w.image(t, "two", "attachment", 1), w.image(t, "three", "attachment", 1)[1:]} {
		log.since()
		found, errs := client.Search(t.Context(), wanted(sets, anything))
		if paths := log.since(); !anything(found) || errs[0] != nil || i > 0 && len(paths) != 1 {
			t.Errorf("image %d: %v, %d requests: %s", i, errs, len(paths), strings.Join(paths, " "))
		}
	}
}

// Wherever the last one was found, and whatever is believed of the registry: nothing is
// absent that was not looked for.
func TestNothingIsAbsentBeforeAllPlacesWereAsked(t *testing.T) {
	forms := []string{"attachment", "bundle", "bundle by tag"}
	for _, before := range forms {
		for _, now := range forms {
			for digest := range 2 {
				t.Run(fmt.Sprint(before, ", then ", now, " on ", digest), func(t *testing.T) {
					var list sync.Map // digests whose referrers the API knows
					w := newWorld(t, true, func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
							if _, digest, ok := strings.Cut(r.URL.Path, "/referrers/"); ok {
								if _, known := list.Load(digest); !known {
									answer(rw, 404, "")
									return
								}
							}
							next.ServeHTTP(rw, r)
						})
					})
					client := registry.New(w.config)
					for i, form := range []string{before, now} {
						on := []int{1, digest}[i]
						sets := w.image(t, form+fmt.Sprint(i), form, on)
						if form == "bundle" {
							list.Store(sets[on].Digest, true)
						}
						found, errs := client.Search(t.Context(), wanted(sets, anything))
						if !anything(found) || found[on].Empty() || errs[0] != nil || errs[1] != nil {
							t.Errorf("%s was not found: %+v, %v", form, found, errs)
						}
					}
				})
			}
		}
	}
}

func TestASilentHostHoldsUpNothingThatIsEnough(t *testing.T) {
	for _, enough := range []bool{true, false} {
		t.Run(fmt.Sprint("enough ", enough), func(t *testing.T) {
			w := secure(t, plain)
			w.config.Timeout = 3 * time.Second
			w.mirrored(t, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			})
			set := evidence.Set{Repository: w.repository, Digest: w.digest, Manifest: testsign.Manifest("image")}
			began := time.Now()
			found, errs := registry.New(w.config).Search(t.Context(), wanted([]evidence.Set{set}, func(found []evidence.Set) bool { return enough && anything(found) }))
			if !anything(found) {
				t.Error("what the other host has was not found")
			}
			if !enough {
				fails(t, errs[0], code.NoEvidenceOffline, "cannot be reached")
				return
			}
			if took := time.Since(began); errs[0] != nil || took > w.config.Timeout/2 {
				t.Errorf("%v after %v", errs[0], took)
			}
		})
	}
}

// A place that does not answer leaves time for the others.
func TestAPlaceThatIsSilentHidesNoOther(t *testing.T) {
	w := newWorld(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".sig") {
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(rw, r)
		})
	})
	w.config.Timeout = 1500 * time.Millisecond
	search := wanted(w.image(t, "image", "bundle", 1), anything)
	search.Referred = false
	found, errs := registry.New(w.config).Search(t.Context(), search)
	if !anything(found) || errs[0] != nil || errs[1] != nil {
		t.Errorf("found %v, %v", anything(found), errs)
	}
}

func TestReferrersThatAreNotCalledSignaturesAreReadToo(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprint("the one that is called so is enough ", first), func(t *testing.T) {
			w := newWorld(t, false, nil)
			sets := w.image(t, "image", "")
			bad, good := testsign.Bundle(t, testsign.NewKey(t), sets[1].Digest), testsign.Bundle(t, w.key, sets[1].Digest)
			named := w.pusher.Referrer(t, sets[1].Digest, testsign.BundleType, bad.JSON)
			named.Annotations = annotated("https://sigstore.dev/cosign/sign/v1")
			w.pusher.Fallback(t, sets[1].Digest, named, w.pusher.Referrer(t, sets[1].Digest, testsign.BundleType, good.JSON))
			looked := bad.ID()
			if !first {
				looked = good.ID()
			}
			found, errs := registry.New(w.config).Search(t.Context(), wanted(sets, func(found []evidence.Set) bool {
				for _, b := range found[1].Bundles {
					if b.ID() == looked {
						return true
					}
				}
				return false
			}))
			if want := map[bool]int{true: 1, false: 2}[first]; len(found[1].Bundles) != want || errs[1] != nil {
				t.Errorf("%d bundles were read, not %d: %v", len(found[1].Bundles), want, errs)
			}
		})
	}
}

// Content is taken from a listing, or guessed, only where it has the digest that the
// listing names.
func TestWhatAListingSaysOfAPayload(t *testing.T) {
	for _, test := range []struct {
		name     string
		optional string // in place of null
		data     func(payload []byte) string
		asked    bool
	}{
		{"usual", "null", nil, false},
		{"unusual", `{"creator":"somebody"}`, nil, true},
		{"unusual, within the listing", `{"creator":"somebody"}`, func(p []byte) string { return base64.StdEncoding.EncodeToString(p) }, false},
		{"unusual, beside other data", `{"creator":"somebody"}`, func(p []byte) string {
			return base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(p), "somebody", "nobody..", 1)))
		}, true},
		{"unusual, beside no base64", `{"creator":"somebody"}`, func([]byte) string { return "?" }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log asked
			w := newWorld(t, true, nil)
			w.config.Transport = &log
			payload := []byte(strings.Replace(string(testsign.Payload(w.repository, w.digest)), `"optional":null`, `"optional":`+test.optional, 1))
			signed := testsign.AttachmentOf(t, w.key, payload)
			data := ""
			if test.data != nil {
				data = fmt.Sprintf(`,"data":%q`, test.data(payload))
			}
			layer := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"dev.cosignproject.cosign/signature":%q}%s}`,
				signed.MediaType, w.pusher.Blob(t, payload), len(payload), signed.Annotations["dev.cosignproject.cosign/signature"], data)
			config := w.pusher.Blob(t, []byte("{}"))
			w.pusher.Manifest(t, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[%s]}`,
				config, layer), "application/vnd.oci.image.manifest.v1+json", testsign.Tag(w.digest)+".sig")
			set, err := w.fetch(t)
			if err != nil || len(set.Attachments) != 1 || string(set.Attachments[0].Payload) != string(payload) {
				t.Errorf("got %s, not %s: %v", set.Attachments, payload, err)
			}
			if got := strings.Contains(strings.Join(log.since(), " "), "/blobs/"); got != test.asked {
				t.Errorf("asked for the blob: %v", got)
			}
		})
	}
}
