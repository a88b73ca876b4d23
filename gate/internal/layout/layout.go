// Package layout answers for a registry out of a folder: an image with its
// signatures in an image layout (OCI image spec, "Image Layout"), as cosign save and
// tools that copy referrers write it. The registry client then reads it within its own
// bounds, and everything is judged as it is from a registry.
package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/reference"
)

const (
	maxIndex    = 4 << 20 // bytes, of index.json
	maxListed   = 1024    // entries in index.json
	maxBlobs    = 10_000  // files that may be referrers
	maxReferrer = 128 << 10
	maxManifest = 4 << 20
)

// Layout is such a folder. No link in it leads out of it.
type Layout struct {
	root   *os.Root
	listed []ocispec.Descriptor // of index.json
}

// Open opens the image layout in dir. Close ends it.
func Open(dir string) (*Layout, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	l := &Layout{root: root}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, errors.Join(err, root.Close()))
	}
	return l, nil
}

// Close closes the folder.
func (l *Layout) Close() error { return l.root.Close() }

func (l *Layout) load() error {
	content, err := l.read("index.json", maxIndex)
	if err != nil {
		return fmt.Errorf("not an image layout: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(content, &index); err != nil {
		return errors.New("index.json is not an image index")
	}
	if len(index.Manifests) > maxListed {
		return fmt.Errorf("index.json lists over %d manifests", maxListed)
	}
	l.listed = index.Manifests
	return nil
}

// open opens a regular file of at most limit bytes.
func (l *Layout) open(name string, limit int64) (*os.File, int64, error) {
	file, err := l.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a file", name)
	case info.Size() > limit:
		err = fmt.Errorf("%s has over %d bytes", name, limit)
	default:
		return file, info.Size(), nil
	}
	return nil, 0, errors.Join(err, file.Close())
}

func (l *Layout) read(name string, limit int64) ([]byte, error) {
	file, _, err := l.open(name, limit)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

// blob gives the path of a blob; none for what is not a digest.
func blob(digest string) (string, bool) {
	if reference.CheckDigest(digest) != nil {
		return "", false
	}
	algorithm, hex, _ := strings.Cut(digest, ":")
	return path.Join("blobs", algorithm, hex), true
}

// RoundTrip answers one GET of the distribution API: manifests, blobs and referrers
// of any repository. It implements http.RoundTripper.
func (l *Layout) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close() // there is nothing in a GET's
	}
	parts := strings.Split(req.URL.Path, "/")
	if len(parts) < 3 {
		return missing(req), nil
	}
	what, name := parts[len(parts)-2], parts[len(parts)-1]
	switch what {
	case "manifests":
		return l.manifest(req, name)
	case "blobs":
		return l.serve(req, name, "application/octet-stream")
	case "referrers":
		return l.referrers(req, name)
	}
	return missing(req), nil
}

// manifest answers with a manifest by digest or tag.
func (l *Layout) manifest(req *http.Request, tagOrDigest string) (*http.Response, error) {
	digest := tagOrDigest
	if reference.CheckDigest(tagOrDigest) != nil {
		digest = l.tagged(tagOrDigest)
	}
	name, ok := blob(digest)
	if !ok {
		return missing(req), nil
	}
	content, err := l.read(name, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(req), nil
	}
	if err != nil {
		return nil, err
	}
	mediaType := ocispec.MediaTypeImageManifest
	var document struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(content, &document) == nil && document.MediaType != "" {
		mediaType = document.MediaType
	}
	response := found(req, mediaType, io.NopCloser(bytes.NewReader(content)), int64(len(content)))
	response.Header.Set("Docker-Content-Digest", digest) // what the content is checked against
	return response, nil
}

// serve answers with a blob.
func (l *Layout) serve(req *http.Request, digest, mediaType string) (*http.Response, error) {
	name, ok := blob(digest)
	if !ok {
		return missing(req), nil
	}
	file, size, err := l.open(name, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(req), nil
	}
	if err != nil {
		return nil, err
	}
	return found(req, mediaType, file, size), nil
}

// referrers answers with all manifests among the blobs that refer to digest. Whether
// index.json lists them does not matter: cosign 3.1 leaves bundles out of it, and what
// is a signature says so itself.
func (l *Layout) referrers(req *http.Request, of string) (*http.Response, error) {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	err := l.each(req.Context(), func(name string, content []byte) {
		if subject(content) != of {
			return
		}
		var d ocispec.Descriptor
		_ = json.Unmarshal(content, &struct {
			ArtifactType *string            `json:"artifactType"`
			Annotations  *map[string]string `json:"annotations"`
		}{&d.ArtifactType, &d.Annotations}) // it was JSON just now
		d.MediaType, d.Digest, d.Size = ocispec.MediaTypeImageManifest, digest.Digest("sha256:"+name), int64(len(content))
		index.Manifests = append(index.Manifests, d)
	})
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(index)
	if err != nil {
		return nil, err
	}
	return found(req, ocispec.MediaTypeImageIndex, io.NopCloser(bytes.NewReader(content)), int64(len(content))), nil
}
