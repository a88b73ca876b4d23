package testsign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"countersign/gate/internal/evidence"

	"github.com/google/go-containerregistry/pkg/registry"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	emptyType    = "application/vnd.oci.empty.v1+json"
)

// Handler gives an in-process registry, with or without the referrers API.
func Handler(referrers bool) http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers))
}

// Serve serves handler on a loopback port, by plain HTTP. Its host is what stands
// before the repository in image names.
func Serve(t testing.TB, handler http.Handler) (host string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// Pusher puts images and signatures straight into a registry's handler, past any
// authentication in front of it.
type Pusher struct {
	Handler http.Handler
	Path    string // of the repository in the registry
}

func (p Pusher) do(t testing.TB, method, url, mediaType string, body []byte) http.Header {
	t.Helper()
	req := httptest.NewRequest(method, url, bytes.NewReader(body))
	req.Header.Set("Content-Type", mediaType)
	recorder := httptest.NewRecorder()
	p.Handler.ServeHTTP(recorder, req)
	if recorder.Code >= 300 {
		t.Fatalf("%s %s: %d %s", method, url, recorder.Code, recorder.Body)
	}
	return recorder.Result().Header
}

// Blob pushes a blob.
func (p Pusher) Blob(t testing.TB, data []byte) string {
	t.Helper()
	digest := Digest(data)
	p.do(t, http.MethodPost, fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", p.Path, digest), "application/octet-stream", data)
	return digest
}

// Manifest pushes a manifest under its digest, and under tag unless it is "".
func (p Pusher) Manifest(t testing.TB, raw []byte, mediaType, tag string) string {
	t.Helper()
	digest := Digest(raw)
	for _, reference := range []string{digest, tag} {
		if reference != "" {
			p.do(t, http.MethodPut, fmt.Sprintf("/v2/%s/manifests/%s", p.Path, reference), mediaType, raw)
		}
	}
	return digest
}

// Delete removes a manifest.
func (p Pusher) Delete(t testing.TB, digest string) {
	t.Helper()
	p.do(t, http.MethodDelete, fmt.Sprintf("/v2/%s/manifests/%s", p.Path, digest), "", nil)
}

// Image pushes the image of that marker, tagged latest, and gives its digest.
func (p Pusher) Image(t testing.TB, marker string) string {
	t.Helper()
	p.Blob(t, []byte(marker))
	return p.Manifest(t, Manifest(marker), manifestType, "latest")
}

// Descriptor is as in the OCI image spec.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Attachments pushes signatures under cosign's tag for digest.
func (p Pusher) Attachments(t testing.TB, digest string, attachments ...evidence.Attachment) {
	t.Helper()
	p.attach(t, Tag(digest)+".sig", attachments)
}

// Attested pushes attestations under cosign's tag for digest.
func (p Pusher) Attested(t testing.TB, digest string, attestations ...evidence.Attachment) {
	t.Helper()
	p.attach(t, Tag(digest)+".att", attestations)
}

func (p Pusher) attach(t testing.TB, tag string, attachments []evidence.Attachment) {
	t.Helper()
	config := []byte("{}")
	layers := []Descriptor{}
	for _, a := range attachments {
		layers = append(layers, Descriptor{MediaType: a.MediaType, Digest: p.Blob(t, a.Payload), Size: len(a.Payload), Annotations: a.Annotations})
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "layers": layers,
		"config": Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: p.Blob(t, config), Size: len(config)}})
	if err != nil {
		t.Fatal(err)
	}
	p.Manifest(t, raw, manifestType, tag)
}

// Referrer pushes a bundle that refers to digest, and gives its descriptor as a
// list of referrers has it. The config stands for the artifact type where
// artifactType is "".
func (p Pusher) Referrer(t testing.TB, digest, artifactType string, content []byte) Descriptor {
	t.Helper()
	empty := []byte("{}")
	configType, layerType := emptyType, BundleType
	if strings.HasPrefix(artifactType, "application/vnd.dev.sigstore.bundle") {
		layerType = artifactType
	}
	if artifactType == "" {
		configType = BundleType
	}
	manifest := map[string]any{"schemaVersion": 2, "mediaType": manifestType,
		"config":  Descriptor{MediaType: configType, Digest: p.Blob(t, empty), Size: len(empty)},
		"layers":  []Descriptor{{MediaType: layerType, Digest: p.Blob(t, content), Size: len(content)}},
		"subject": Descriptor{MediaType: manifestType, Digest: digest, Size: 1}}
	if artifactType != "" {
		manifest["artifactType"] = artifactType
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	return Descriptor{MediaType: manifestType, Digest: p.Manifest(t, raw, manifestType, ""), Size: len(raw), ArtifactType: emptyType}
}

// SignatureReferrer pushes signatures as one referrer of digest (cosign's type
// SignatureType), and gives its descriptor as the referrers API lists it.
func (p Pusher) SignatureReferrer(t testing.TB, digest string, attachments ...evidence.Attachment) Descriptor {
	t.Helper()
	layers := []Descriptor{}
	for _, a := range attachments {
		layers = append(layers, Descriptor{MediaType: a.MediaType, Digest: p.Blob(t, a.Payload), Size: len(a.Payload), Annotations: a.Annotations})
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "artifactType": SignatureType, "layers": layers,
		"config":  Descriptor{MediaType: emptyType, Digest: p.Blob(t, []byte("{}")), Size: 2},
		"subject": Descriptor{MediaType: manifestType, Digest: digest, Size: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return Descriptor{MediaType: manifestType, Digest: p.Manifest(t, raw, manifestType, ""), Size: len(raw), ArtifactType: SignatureType}
}

// Bundles pushes bundles as referrers of digest, and lists them under the
// fallback tag too if fallback is set, with the artifact type that cosign writes.
func (p Pusher) Bundles(t testing.TB, digest string, fallback bool, bundles ...evidence.Bundle) {
	t.Helper()
	var listed []Descriptor
	for _, b := range bundles {
		listed = append(listed, p.Referrer(t, digest, BundleType, b.JSON))
	}
	if fallback {
		p.Fallback(t, digest, listed...)
	}
}

// Fallback pushes the index of the referrers tag schema.
func (p Pusher) Fallback(t testing.TB, digest string, listed ...Descriptor) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": listed})
	if err != nil {
		t.Fatal(err)
	}
	p.Manifest(t, raw, indexType, Tag(digest))
}

// Tag gives sha256-<hex> for a digest.
func Tag(digest string) string { return strings.Replace(digest, ":", "-", 1) }
