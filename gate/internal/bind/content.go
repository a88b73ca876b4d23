package bind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

// maxDocument bounds an index, a manifest and a config, in bytes. (4 MiB is the
// manifest limit that the distribution spec asks registries for.)
const maxDocument = 4 << 20

// Document is what is read of an index or a manifest.
type Document struct {
	IsIndex  bool
	Children []ocispec.Descriptor // of an index: those that may be manifests or indexes
	Config   string               // of a manifest: digest of the config
}

// Size is about what a document holds in memory, in bytes.
func (d *Document) Size() int {
	const fields, descriptor, platform = 128, 256, 160 // of an entry, with its pointers
	size := fields + len(d.Config)
	for _, c := range d.Children {
		size += descriptor + len(c.MediaType) + len(c.Digest)
		if p := c.Platform; p != nil {
			size += platform + len(p.Architecture) + len(p.OS) + len(p.OSVersion) + len(p.Variant)
			for _, feature := range p.OSFeatures {
				size += 16 + len(feature)
			}
		}
	}
	return size
}

// errAbsent says that the content store doesn't have something.
var errAbsent = errors.New("not in the content store")

// chainOf returns the chain ID of a config's layers (image-spec, "Layer ChainID"),
// from memory or from the content store.
func (b *Binder) chainOf(ctx context.Context, config string) (digest.Digest, error) {
	if chain, ok := b.chains.Get(config); ok {
		return chain, nil
	}
	content, err := b.read(ctx, config)
	if err != nil {
		return "", err
	}
	chain, err := parseChain(config, content)
	if err == nil {
		b.chains.Put(config, chain)
	}
	return chain, err
}

// read returns the bytes behind a digest, checked against it.
func (b *Binder) read(ctx context.Context, dgst string) ([]byte, error) {
	if err := reference.CheckDigest(dgst); err != nil {
		return nil, malformed(dgst, err.Error())
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream on every way out
	defer cancel()
	stream, err := b.content.Read(ctx, &contentapi.ReadContentRequest{Digest: dgst})
	if err != nil {
		return nil, b.unreachable("content "+dgst, err)
	}
	var content []byte
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			if found := digest.FromBytes(content); found.String() != dgst {
				return nil, code.Refuse(code.Tampered, fmt.Sprintf("the bytes stored as %s have the digest %s", dgst, found),
					"content that matches its digest", "remove the image from the node and pull it again")
			}
			return content, nil
		case isNotFound(err):
			return nil, fmt.Errorf("%s: %w", dgst, errAbsent)
		case err != nil:
			return nil, b.unreachable("content "+dgst, err)
		}
		if content = append(content, part.GetData()...); len(content) > maxDocument {
			return nil, malformed(dgst, fmt.Sprintf("it is over %d bytes", maxDocument))
		}
	}
}

// child is what is read of a descriptor.
type child struct {
	MediaType string            `json:"mediaType"`
	Digest    digest.Digest     `json:"digest"`
	Platform  *ocispec.Platform `json:"platform"`
}

// ParseDocument reads an index or a manifest, whose bytes were checked against
// dgst before, by what it holds and not by what a descriptor calls it: a document
// that could be taken for both is neither. It returns a *code.Refusal.
func ParseDocument(dgst string, content []byte) (*Document, error) {
	var d struct {
		Config    *child          `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		FSLayers  json.RawMessage `json:"fsLayers"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if bounded.Deep(content) {
		return nil, malformed(dgst, bounded.ErrDeep.Error())
	}
	if err := json.Unmarshal(content, &d); err != nil {
		return nil, malformed(dgst, err.Error())
	}
	isManifest := d.Config != nil || d.Layers != nil
	switch {
	case d.FSLayers != nil || isManifest == bounded.Present(d.Manifests):
		return nil, malformed(dgst, "it is not clearly an index or a manifest")
	case isManifest && d.Config == nil:
		return nil, malformed(dgst, "the manifest has no config")
	case isManifest:
		if err := reference.CheckDigest(d.Config.Digest.String()); err != nil {
			return nil, malformed(dgst, "config: "+err.Error())
		}
		return &Document{Config: d.Config.Digest.String()}, nil
	}
	children, more, err := bounded.List[child](d.Manifests, maxManifests)
	if err != nil {
		return nil, malformed(dgst, err.Error())
	}
	if more {
		return nil, malformed(dgst, fmt.Sprintf("it lists more than %d manifests", maxManifests))
	}
	index := &Document{IsIndex: true}
	for _, m := range children {
		if strings.Contains(m.MediaType, "manifest") || strings.Contains(m.MediaType, "index") {
			index.Children = append(index.Children, ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Platform: m.Platform})
		}
	}
	return index, nil
}

func parseChain(dgst string, content []byte) (digest.Digest, error) {
	diffIDs, err := ParseDiffIDs(dgst, content)
	if err != nil {
		return "", err
	}
	return identity.ChainID(diffIDs), nil
}

// ParseDiffIDs reads the diff IDs of a config, whose bytes were checked against
// dgst before, lowest layer first. It returns a *code.Refusal.
func ParseDiffIDs(dgst string, content []byte) ([]digest.Digest, error) {
	var c struct {
		RootFS *ocispec.RootFS `json:"rootfs"`
	}
	if bounded.Deep(content) {
		return nil, malformed(dgst, bounded.ErrDeep.Error())
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, malformed(dgst, err.Error())
	}
	if c.RootFS == nil {
		return nil, malformed(dgst, "it is not an image config: it has no rootfs")
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := id.Validate(); err != nil {
			return nil, malformed(dgst, "diff_ids: "+err.Error())
		}
	}
	return c.RootFS.DiffIDs, nil
}

func malformed(dgst, why string) error {
	return code.Refuse(code.Malformed, fmt.Sprintf("the document %.80s can't be used: %s", dgst, why),
		"an OCI index, manifest or config", "build the image with a current tool")
}
