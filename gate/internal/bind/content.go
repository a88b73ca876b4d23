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

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

// maxDocument bounds an index, a manifest and a config, in bytes. (4 MiB is the
// manifest limit that the distribution spec asks registries for.)
const maxDocument = 4 << 20

// facts is what is remembered of a document once its bytes matched its digest.
// Exactly one of the three kinds applies.
type facts struct {
	children []child       // index
	config   string        // manifest
	chain    digest.Digest // config: chain ID of its layers; "" for none
	isConfig bool
}

// child is an entry of an index that may be a manifest or another index.
type child struct {
	digest   string
	platform *ocispec.Platform
}

// errAbsent says that the content store doesn't have a document.
var errAbsent = errors.New("not in the content store")

// document returns the facts of an index or a manifest.
func (b *Binder) document(ctx context.Context, dgst string) (facts, error) {
	f, err := b.remembered(ctx, dgst, parseDocument)
	if err == nil && f.isConfig {
		err = malformed(dgst, "it is an image config, not an index or a manifest")
	}
	return f, err
}

// chainOf returns the chain ID of a config's layers (image-spec, "Layer ChainID").
func (b *Binder) chainOf(ctx context.Context, config string) (digest.Digest, error) {
	f, err := b.remembered(ctx, config, parseConfig)
	if err == nil && !f.isConfig {
		err = malformed(config, "it is no image config")
	}
	return f.chain, err
}

func (b *Binder) remembered(ctx context.Context, dgst string, parse func(string, []byte) (facts, error)) (facts, error) {
	if f, ok := b.facts.Get(dgst); ok {
		return f, nil
	}
	content, err := b.read(ctx, dgst)
	if err != nil {
		return facts{}, err
	}
	f, err := parse(dgst, content)
	if err == nil {
		b.facts.Put(dgst, f)
	}
	return f, err
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

// parseDocument reads an index or a manifest by what it holds, not by what a
// descriptor calls it: a document that could be taken for both is neither.
func parseDocument(dgst string, content []byte) (facts, error) {
	var d struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    json.RawMessage      `json:"layers"`
		FSLayers  json.RawMessage      `json:"fsLayers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(content, &d); err != nil {
		return facts{}, malformed(dgst, err.Error())
	}
	isManifest := d.Config != nil || d.Layers != nil
	switch {
	case d.FSLayers != nil || isManifest == (d.Manifests != nil):
		return facts{}, malformed(dgst, "it is not clearly an index or a manifest")
	case isManifest && d.Config == nil:
		return facts{}, malformed(dgst, "the manifest has no config")
	case isManifest:
		return facts{config: d.Config.Digest.String()}, nil
	}
	f := facts{children: []child{}}
	for _, m := range d.Manifests {
		if strings.Contains(m.MediaType, "manifest") || strings.Contains(m.MediaType, "index") {
			f.children = append(f.children, child{m.Digest.String(), m.Platform})
		}
	}
	return f, nil
}

func parseConfig(dgst string, content []byte) (facts, error) {
	var c struct {
		RootFS *ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return facts{}, malformed(dgst, err.Error())
	}
	if c.RootFS == nil {
		return facts{}, malformed(dgst, "it is no image config: it has no rootfs")
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := id.Validate(); err != nil {
			return facts{}, malformed(dgst, "diff_ids: "+err.Error())
		}
	}
	return facts{isConfig: true, chain: identity.ChainID(c.RootFS.DiffIDs)}, nil
}

func malformed(dgst, why string) error {
	return code.Refuse(code.Malformed, fmt.Sprintf("the document %.80s can't be used: %s", dgst, why),
		"an OCI index, manifest or config", "build the image with a current tool")
}
