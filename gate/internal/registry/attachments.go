package registry

import (
	"context"
	"fmt"

	"countersign/gate/internal/evidence"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const simpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"

const (
	maxAnnotations     = 32       // per signature
	maxAnnotationBytes = 64 << 10 // per signature, keys and values: certificates and log entries are among them
)

// attachments gets the signatures under cosign's tag for the digest (cosign's
// SIGNATURE_SPEC): each layer is a payload, with the signature in its annotations.
func (f *fetch) attachments(ctx context.Context) ([]evidence.Attachment, error) {
	manifest, found, err := f.manifest(ctx, f.tag(".sig"), maxManifest)
	if err != nil || !found {
		return nil, err
	}
	image, err := f.parsed(manifest.Raw)
	if err != nil {
		return nil, malformed(fmt.Sprintf("tag %s: %v", f.tag(".sig"), err), "an image manifest whose layers are signatures")
	}
	var layers []ocispec.Descriptor
	for _, layer := range image.Layers {
		if layer.MediaType == simpleSigning {
			layers = append(layers, layer)
		}
	}
	return each(f, f.fit("signatures under its tag", layers), func(layer ocispec.Descriptor) (evidence.Attachment, error) {
		return f.attachment(ctx, layer)
	}), nil
}

func (f *fetch) attachment(ctx context.Context, layer ocispec.Descriptor) (evidence.Attachment, error) {
	size := 0
	for key, value := range layer.Annotations {
		size += len(key) + len(value)
	}
	if len(layer.Annotations) > maxAnnotations || size > maxAnnotationBytes {
		return evidence.Attachment{}, malformed(
			fmt.Sprintf("signature %s has %d annotations of %d bytes", layer.Digest, len(layer.Annotations), size),
			fmt.Sprintf("at most %d of %d bytes", maxAnnotations, maxAnnotationBytes))
	}
	payload, err := f.blob(ctx, layer.Digest.String(), layer.Size)
	if err != nil {
		return evidence.Attachment{}, err
	}
	return evidence.Attachment{MediaType: layer.MediaType, Payload: payload, Annotations: layer.Annotations}, nil
}
