package testsign

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Layout writes an image of the pusher's repository, with its signatures, as an image
// layout, and gives its folder: as cosign save does (which lists no referrers), or
// with all manifests listed.
func (p Pusher) Layout(t testing.TB, digest string, cosign bool) string {
	t.Helper()
	l := saved{t: t, pusher: p, dir: t.TempDir()}
	image := l.manifest(digest)
	image.Annotations = map[string]string{"org.opencontainers.image.ref.name": "v1"}
	if cosign {
		image.Annotations = map[string]string{"kind": "dev.cosignproject.cosign/image"}
		image.ArtifactType = "application/vnd.oci.image.config.v1+json"
	}
	listed := []Descriptor{image}
	if p.has("manifests/" + Tag(digest) + ".sig") {
		signatures := l.manifest(Tag(digest) + ".sig")
		signatures.Annotations = map[string]string{"org.opencontainers.image.ref.name": Tag(digest) + ".sig"}
		if cosign {
			signatures.Annotations = map[string]string{"kind": "dev.cosignproject.cosign/sigs"}
		}
		listed = append(listed, signatures)
	}
	var referrers struct{ Manifests []Descriptor }
	l.decode(p.get(t, "referrers/"+digest), &referrers)
	for _, d := range referrers.Manifests {
		l.manifest(d.Digest)
		if !cosign {
			listed = append(listed, d)
		}
	}
	l.write("index.json", map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": listed})
	l.write("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"})
	return l.dir
}

// saved is a layout that is being written.
type saved struct {
	t      testing.TB
	pusher Pusher
	dir    string
}

// manifest saves a manifest, with its config and those of its layers that there are.
func (l saved) manifest(tagOrDigest string) Descriptor {
	l.t.Helper()
	raw := l.pusher.get(l.t, "manifests/"+tagOrDigest)
	var manifest struct {
		MediaType string
		Config    Descriptor
		Layers    []Descriptor
	}
	l.decode(raw, &manifest)
	for _, d := range append(manifest.Layers, manifest.Config) {
		if l.pusher.has("blobs/" + d.Digest) {
			l.blob(l.pusher.get(l.t, "blobs/"+d.Digest))
		}
	}
	return Descriptor{MediaType: manifest.MediaType, Digest: l.blob(raw), Size: len(raw)}
}

func (l saved) blob(content []byte) string {
	l.t.Helper()
	digest := Digest(content)
	l.file(filepath.Join("blobs", strings.Replace(digest, ":", "/", 1)), content)
	return digest
}

func (l saved) write(name string, document any) {
	l.t.Helper()
	content, err := json.Marshal(document)
	if err != nil {
		l.t.Fatal(err)
	}
	l.file(name, content)
}

func (l saved) file(name string, content []byte) {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l saved) decode(content []byte, to any) {
	l.t.Helper()
	if err := json.Unmarshal(content, to); err != nil {
		l.t.Fatal(err)
	}
}

func (p Pusher) fetch(what string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	p.Handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/v2/"+p.Path+"/"+what, nil))
	return recorder
}

func (p Pusher) has(what string) bool { return p.fetch(what).Code == http.StatusOK }

func (p Pusher) get(t testing.TB, what string) []byte {
	t.Helper()
	recorder := p.fetch(what)
	if recorder.Code != http.StatusOK {
		t.Fatalf("%s: %d", what, recorder.Code)
	}
	return recorder.Body.Bytes()
}
