package registry_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/testsign"
)

func TestGoodSignaturesAreNotHiddenByOthers(t *testing.T) {
	w := newWorld(t, false, nil)
	good := testsign.Bundle(t, w.key, w.digest)
	var listed []testsign.Descriptor
	for i := range 70 {
		d := w.pusher.Referrer(t, w.digest, "application/vnd.example", fmt.Append(nil, i))
		d.ArtifactType = "application/vnd.example"
		listed = append(listed, d)
	}
	w.pusher.Fallback(t, w.digest, append(listed, w.pusher.Referrer(t, w.digest, testsign.BundleType, good.JSON))...)
	var attachments []evidence.Attachment
	for i := range 70 {
		a := testsign.Attachment(t, w.key, w.repository, w.digest)
		a.Payload = fmt.Append(nil, i)
		if i == 63 {
			a = testsign.Attachment(t, w.key, w.repository, w.digest)
		}
		attachments = append(attachments, a)
	}
	w.pusher.Attachments(t, w.digest, attachments...)
	set, err := w.fetch(t)
	if err != nil || len(set.Bundles) != 1 || len(set.Attachments) != 64 {
		t.Errorf("%d bundles, %d attachments, %v", len(set.Bundles), len(set.Attachments), err)
	}
	problem(t, set, code.Malformed, "71 referrers")
	problem(t, set, code.Malformed, "70 signatures under its tag")
}

func TestContentThatCannotBeUsedIsAProblem(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter, path string) bool // true: answered
		want   code.Code
		saying string
	}{
		{"a blob with other bytes", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 200, "other bytes")
		}, code.Tampered, "blob"},
		{"a blob that is missing", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 404, "")
		}, code.RegistryError, "lacks blob"},
		{"a blob that is too large", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 200, strings.Repeat("x", 1<<20+1))
		}, code.Malformed, "too large"},
		{"a blob that is too large, of a length that is not told", func(w http.ResponseWriter, path string) bool {
			if !strings.Contains(path, "/blobs/") {
				return false
			}
			w.(http.Flusher).Flush()
			return answer(w, 200, strings.Repeat("x", 1<<20))
		}, code.Malformed, "too large"},
		{"a blob that fails", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/blobs/") && answer(w, 500, "")
		}, code.RegistryError, "500"},
		{"a list that is not JSON", func(w http.ResponseWriter, path string) bool {
			return strings.HasSuffix(path, ".sig") && answer(w, 200, "junk")
		}, code.Malformed, ".sig"},
		{"a manifest with other bytes", func(w http.ResponseWriter, path string) bool {
			return strings.Contains(path, "/manifests/sha256:") && answer(w, 200, "{}")
		}, code.Tampered, "manifest"},
		{"an endless manifest", func(w http.ResponseWriter, path string) bool {
			if !strings.HasSuffix(path, ".sig") {
				return false
			}
			for range 9 << 20 / 1000 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1000)); err != nil {
					break
				}
			}
			return true
		}, code.Malformed, "too long"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, true, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if !test.answer(rw, r.URL.Path) {
						next.ServeHTTP(rw, r)
					}
				})
			})
			w.push(t, false)
			set, err := w.fetch(t)
			if err != nil {
				t.Fatal(err)
			}
			problem(t, set, test.want, test.saying)
		})
	}
}

func answer(w http.ResponseWriter, status int, body string) bool {
	w.WriteHeader(status)
	fmt.Fprint(w, body)
	return true
}

func TestOneBadBlobAmongGoodOnes(t *testing.T) {
	bad := testsign.Digest(testsign.Payload("registry.example/bad", testsign.Digest(nil)))
	w := newWorld(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/blobs/"+bad) {
				answer(rw, 200, "other bytes")
				return
			}
			next.ServeHTTP(rw, r)
		})
	})
	w.pusher.Attachments(t, w.digest, testsign.Attachment(t, w.key, "registry.example/bad", testsign.Digest(nil)),
		testsign.Attachment(t, w.key, w.repository, w.digest))
	set, err := w.fetch(t)
	if err != nil || len(set.Attachments) != 1 || string(set.Attachments[0].Payload) != string(testsign.Payload(w.repository, w.digest)) {
		t.Errorf("got %+v, %v", set.Attachments, err)
	}
	problem(t, set, code.Tampered, bad)
}

func TestAnnotationsAreBounded(t *testing.T) {
	w := newWorld(t, true, nil)
	a := testsign.Attachment(t, w.key, w.repository, w.digest)
	a.Annotations["x"] = strings.Repeat("x", 64<<10)
	w.pusher.Attachments(t, w.digest, a, testsign.Attachment(t, w.key, w.repository, w.digest))
	set, err := w.fetch(t)
	if err != nil || len(set.Attachments) != 1 {
		t.Errorf("%d attachments, %v", len(set.Attachments), err)
	}
	problem(t, set, code.Malformed, "annotations")
}

func TestListsAreBounded(t *testing.T) {
	bomb := strings.Repeat(",{}", 1<<20) + "]}"
	w := newWorld(t, false, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, tag, _ := strings.Cut(r.URL.Path, "/manifests/sha256-")
			switch {
			case tag == "":
				next.ServeHTTP(rw, r)
			case strings.HasSuffix(tag, ".sig"):
				answer(rw, 200, `{"layers":[{}`+bomb)
			default:
				answer(rw, 200, `{"manifests":[{}`+bomb)
			}
		})
	})
	set, err := w.fetch(t)
	if err != nil || !set.Empty() {
		t.Errorf("%d attachments, %d bundles, %v", len(set.Attachments), len(set.Bundles), err)
	}
	problem(t, set, code.Malformed, "more than 20000 layers")
	problem(t, set, code.Malformed, "more than 20000 manifests")
}

func TestContentIsBoundedInAll(t *testing.T) {
	w := newWorld(t, false, nil)
	var listed []testsign.Descriptor
	for i := range 8 {
		listed = append(listed, w.pusher.Referrer(t, w.digest, testsign.BundleType, append(fmt.Append(nil, i), make([]byte, 128<<10-8)...)))
	}
	good := testsign.Bundle(t, w.key, w.digest)
	listed = append(listed, w.pusher.Referrer(t, w.digest, testsign.BundleType, good.JSON))
	w.pusher.Fallback(t, w.digest, listed...)
	set, err := w.fetch(t)
	if err != nil || len(set.Bundles) != 4 || string(set.Bundles[0].JSON) != string(good.JSON) {
		t.Errorf("%d bundles, %v: the small one must be among them", len(set.Bundles), err)
	}
	problem(t, set, code.Malformed, "of all bundles")
}

func TestFailuresAreTyped(t *testing.T) {
	always := func(status int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, status, "") })
		}
	}
	tests := []struct {
		name   string
		wrap   func(http.Handler) http.Handler
		want   code.Code
		saying string
	}{
		{"500", always(500), code.RegistryError, "500"},
		{"503", always(503), code.RegistryError, "503"},
		{"429", always(429), code.RegistryError, "429"},
		{"403", always(403), code.RegistryAuth, "403"},
		{"401 without a challenge", always(401), code.RegistryAuth, "refused the gate"},
		{"a closed connection", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, code.NoEvidenceOffline, "cannot be reached"},
		{"an endless redirect", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
		}, code.RegistryError, "redirects"},
		{"a huge header", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X", strings.Repeat("x", 128<<10))
				answer(w, 200, "")
			})
		}, code.RegistryError, "header"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := newWorld(t, true, test.wrap).fetch(t)
			fails(t, err, test.want, test.saying)
		})
	}
}

func TestARegistryThatIsDown(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	w := newWorld(t, true, nil)
	w.repository = strings.TrimPrefix(server.URL, "http://") + "/demo/app"
	_, err := w.fetch(t)
	fails(t, err, code.NoEvidenceOffline, "refused")
	w.repository = "registry.invalid/demo/app"
	_, err = w.fetch(t)
	fails(t, err, code.NoEvidenceOffline, "cannot be reached")
}

func TestASlowRegistry(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, true, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/referrers/") {
				<-release
			}
			next.ServeHTTP(rw, r)
		})
	})
	defer close(release)
	w.push(t, false)
	w.config.Timeout = 200 * time.Millisecond
	start := time.Now()
	set, err := w.fetch(t)
	fails(t, err, code.NoEvidenceOffline, "no answer in time")
	if len(set.Attachments) != 1 || time.Since(start) > 2*time.Second {
		t.Errorf("%d attachments after %v: what was there in time must count", len(set.Attachments), time.Since(start))
	}
}
