package prove

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/policy"
)

// Registry is where the canary is served, and the scope that every rendered policy
// reserves for it, with a root whose private key nobody has (docs/adr/0019). It is an
// address of the loopback network: runtime and gate reach it without a name service,
// and without a file that would have to be taken away again. Its port is one that
// only root can have.
const Registry = policy.CanaryRegistry

// The repositories of the canary. CRI-O's own engine lets the first one pass, so that
// the gate is seen to refuse it at create, and has to refuse the second one.
const (
	Repository = Registry + "/countersign/canary"
	Refused    = Registry + "/countersign/refused"
	tag        = "unsigned"
)

// Reference is the canary as pods would name it.
const Reference = Repository + ":" + tag

// entry is the program in the image.
const entry = "countersign-canary"

// maxProgram bounds the program in the image.
const maxProgram = 64 << 20

// blob is a document or a layer of the canary.
type blob struct {
	descriptor ocispec.Descriptor
	content    []byte
}

func newBlob(mediaType string, content []byte) blob {
	return blob{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}, content}
}

// image is an image without a signature that no other run has: nothing can know it
// beforehand.
type image struct {
	manifest blob
	parts    []blob // config and layer
}

// newImage makes the canary around a program that ends by itself: where nothing
// refuses the image, its start succeeds, and that is seen.
func newImage(program string) (*image, error) {
	content, err := readProgram(program)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: entry, Mode: 0o755, Size: int64(len(content)), Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := archive.Write(content); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	files := newBlob(ocispec.MediaTypeImageLayer, layer.Bytes())
	config, err := document(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: platforms.DefaultSpec(),
		Config:   ocispec.ImageConfig{Cmd: []string{"/" + entry}, Labels: map[string]string{"countersign.canary": rand.Text()}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{files.descriptor.Digest}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config.descriptor,
		Layers:    []ocispec.Descriptor{files.descriptor},
	})
	if err != nil {
		return nil, err
	}
	return &image{manifest: manifest, parts: []blob{config, files}}, nil
}

func readProgram(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the hook, which is the canary's program too: %w", err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxProgram+1))
	if err == nil && len(content) > maxProgram {
		err = fmt.Errorf("%s: over %d bytes, expected the hook", path, maxProgram)
	}
	return content, err
}

func document(mediaType string, of any) (blob, error) {
	content, err := json.Marshal(of)
	return newBlob(mediaType, content), err
}
