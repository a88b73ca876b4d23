package registry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// through gives a registry whose answers to some paths are others: change is given the
// header of what will be answered, and may answer itself.
func through(t *testing.T, api bool, change func(rw http.ResponseWriter, r *http.Request) bool) *world {
	t.Helper()
	return newWorld(t, api, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !change(rw, r) {
				next.ServeHTTP(rw, r)
			}
		})
	})
}

func TestATagLeadsToWhatTheRegistrySaysItDoes(t *testing.T) {
	for name, want := range map[string]code.Code{"its own digest": "", "another digest": code.Tampered, "a digest of another kind": code.RegistryError} {
		t.Run(name, func(t *testing.T) {
			content := testsign.Manifest("image")
			says := testsign.Digest(content)
			switch want {
			case code.Tampered:
				says = testsign.Digest([]byte("another"))
			case code.RegistryError:
				says = "sha512:" + strings.Repeat("a", 128)
			}
			w := through(t, true, func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/manifests/latest") {
					return false
				}
				rw.Header().Set("Docker-Content-Digest", says)
				rw.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				return answer(rw, http.StatusOK, string(content))
			})
			m, err := registry.New(w.config).Manifest(t.Context(), w.repository, "latest")
			if want == "" {
				if err != nil || m.Digest != says {
					t.Errorf("got %+v, %v", m, err)
				}
				return
			}
			fails(t, err, want, "manifest latest has ")
		})
	}
}

func TestALargeAttestationHasItsDigest(t *testing.T) {
	for name, change := range map[string]string{"as it was pushed": "", "with another byte": "y"} {
		t.Run(name, func(t *testing.T) {
			var digest, content string
			w := through(t, true, func(rw http.ResponseWriter, r *http.Request) bool {
				return digest != "" && strings.HasSuffix(r.URL.Path, "/blobs/"+digest) && answer(rw, http.StatusOK, content)
			})
			w.config.Spool = t.TempDir()
			bundle := testsign.BundleOf(t, w.key, w.statement(t, bom, strings.Repeat("x", evidence.MaxInMemory)))
			w.pusher.Bundles(t, w.digest, false, bundle)
			digest, content = testsign.Digest(bundle.JSON), string(bundle.JSON)
			if change != "" {
				content = change + content[1:]
			}
			set := w.fetchTypes(t, bom)
			if change == "" {
				if len(set.Large) != 1 || len(set.Problems) > 0 {
					t.Errorf("%d large, %v", len(set.Large), set.Problems)
				}
				return
			}
			if len(set.Large) != 0 {
				t.Errorf("%d large", len(set.Large))
			}
			problem(t, set, code.Tampered, digest)
		})
	}
}

func TestAttestationsAreBoundedInNumber(t *testing.T) {
	for _, count := range []int{32, 33} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			w := newWorld(t, false, nil)
			var listed []testsign.Descriptor
			for i := range count {
				bundle := testsign.BundleOf(t, w.key, w.statement(t, bom, fmt.Sprint(i)))
				d := w.pusher.Referrer(t, w.digest, testsign.BundleType, bundle.JSON)
				d.ArtifactType, d.Annotations = testsign.BundleType, annotated(bom)
				listed = append(listed, d)
			}
			w.pusher.Fallback(t, w.digest, listed...)
			set := w.fetchTypes(t, bom)
			if count == 32 {
				if len(set.Bundles) != 32 || len(set.Problems) > 0 {
					t.Errorf("%d bundles, %v", len(set.Bundles), set.Problems)
				}
				return
			}
			problem(t, set, code.Malformed, "33 attestations")
		})
	}
}

func TestPagesOfReferrersAreBounded(t *testing.T) {
	for name, endless := range map[string]bool{"two": false, "no end": true} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			w := through(t, false, func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/referrers/") {
					return false
				}
				asked++
				rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
				if endless || asked < 2 {
					rw.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, asked))
				}
				return json.NewEncoder(rw).Encode(map[string]any{"manifests": []any{}}) == nil
			})
			set, err := w.fetch(t)
			if err != nil {
				t.Fatal(err)
			}
			if endless {
				problem(t, set, code.Malformed, "pages of referrers")
			} else if len(set.Problems) > 0 || asked != 2 {
				t.Errorf("asked %d times, %v", asked, set.Problems)
			}
		})
	}
}

// A signature of the Notary Project has one envelope, of a type that somebody reads.
func TestWhatIsNoSignatureOfTheNotaryProject(t *testing.T) {
	const jose = "application/jose+json"
	for name, layers := range map[string][]string{"one envelope": {jose}, "two envelopes": {jose, jose}, "of another type": {"text/plain"}, "none": {}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, true, nil)
			var listed []map[string]any
			for i, media := range layers {
				content := fmt.Appendf(nil, `{"envelope":%d}`, i)
				listed = append(listed, map[string]any{"mediaType": media, "digest": w.pusher.Blob(t, content), "size": len(content)})
			}
			manifest, err := json.Marshal(map[string]any{
				"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "application/vnd.cncf.notary.signature",
				"config":  map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": w.pusher.Blob(t, []byte("{}")), "size": 2},
				"layers":  append([]map[string]any{}, listed...),
				"subject": map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": w.digest, "size": 1},
			})
			if err != nil {
				t.Fatal(err)
			}
			w.pusher.Manifest(t, manifest, "application/vnd.oci.image.manifest.v1+json", "")
			set, err := w.fetch(t)
			if err != nil {
				t.Fatal(err)
			}
			if name == "one envelope" {
				if len(set.Envelopes) != 1 || len(set.Problems) > 0 {
					t.Errorf("%d envelopes, %v", len(set.Envelopes), set.Problems)
				}
				return
			}
			if len(set.Envelopes) > 0 {
				t.Errorf("%d envelopes", len(set.Envelopes))
			}
			problem(t, set, code.Malformed, fmt.Sprintf("has %d layers", len(layers)))
		})
	}
}

func TestOfWhatIsNoDigestNothingIsAsked(t *testing.T) {
	for _, digest := range []string{"latest", "sha256:../../x", "sha512:" + strings.Repeat("a", 128), ""} {
		t.Run(digest, func(t *testing.T) {
			asked := false
			w := through(t, true, func(http.ResponseWriter, *http.Request) bool { asked = true; return false })
			_, err := registry.New(w.config).Fetch(t.Context(), w.repository, digest, nil)
			fails(t, err, code.Malformed, "is not sha256:")
			if asked {
				t.Error("the registry was asked")
			}
		})
	}
}

// Media types are compared without case (RFC 9110, 8.3.1).
func TestAMediaTypeInOtherCaseIsTheSame(t *testing.T) {
	for _, media := range []string{"application/vnd.oci.image.index.v1+json", "Application/Vnd.OCI.Image.Index.V1+JSON; charset=utf-8"} {
		t.Run(media, func(t *testing.T) {
			w := newWorld(t, true, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.URL.Path, "/referrers/") {
						rw = typed{rw, media}
					}
					next.ServeHTTP(rw, r)
				})
			})
			w.push(t, false)
			set, err := w.fetch(t)
			complete(t, set, err)
		})
	}
}

// typed answers with another Content-Type.
type typed struct {
	http.ResponseWriter
	media string
}

func (w typed) WriteHeader(status int) {
	w.Header().Set("Content-Type", w.media)
	w.ResponseWriter.WriteHeader(status)
}
