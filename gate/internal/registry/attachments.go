package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"countersign/gate/internal/attached"
	"countersign/gate/internal/bounded"
	"countersign/gate/internal/evidence"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

const simpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"

const (
	maxAnnotations     = 32       // per signature
	maxAnnotationBytes = 64 << 10 // per signature, as JSON: certificates and log entries are among them
)

// underTags gets what is under cosign's tags for the digest.
func (f *fetch) underTags(ctx context.Context) error {
	if !f.lists(f.tagged(".sig").needs) {
		return nil
	}
	var failures [2]error
	var wait sync.WaitGroup
	wait.Go(func() { failures[0] = f.attached(ctx) })
	if len(f.types) > 0 {
		wait.Go(func() { failures[1] = f.attested(ctx) })
	}
	wait.Wait()
	return errors.Join(failures[:]...)
}

// attached gets the signatures under cosign's tag for the digest (cosign's
// SIGNATURE_SPEC): each layer is a payload, with the signature in its annotations.
func (f *fetch) attached(ctx context.Context) error {
	var layers shortlist
	left := maxContent
	_, found, err := f.list(ctx, f.tagged(".sig"), "layers", func(layer descriptor) {
		if layer.MediaType == simpleSigning && f.annotated(layer, left) {
			left -= layer.weight()
			layers.add(0, layer)
		}
	})
	if !found && err == nil {
		return nil
	}
	f.keepAttachments(ctx, layers.best(f, "signatures under its tag"), newRoom())
	return err
}

// attested gets the attestations under cosign's tag for the digest (cosign's
// ATTESTATION_SPEC): each layer is a DSSE envelope. What each says is kept as the bundle
// that says the same.
func (f *fetch) attested(ctx context.Context) error {
	var layers shortlist
	left := maxContent
	_, found, err := f.list(ctx, f.tagged(".att"), "layers", func(layer descriptor) {
		if layer.MediaType == attached.EnvelopeType && f.annotated(layer, left) {
			left -= layer.weight()
			layers.attestation(layer)
		}
	})
	if !found && err == nil {
		return nil
	}
	small, large := f.apart(layers.attestations(f))
	read := each(f, f.fit("attestations under its tag", small, newRoom()), f.envelope(ctx))
	f.mu.Lock()
	f.bundles = append(f.bundles, read...)
	f.mu.Unlock()
	f.keepLarge(ctx, large, attached.Around)
	return err
}

// envelope reads an attestation of cosign 1 or 2.
func (f *fetch) envelope(ctx context.Context) func(descriptor) (evidence.Bundle, error) {
	return func(layer descriptor) (evidence.Bundle, error) {
		annotations, err := bounded.Strings(layer.Annotations, maxAnnotations)
		if err != nil {
			return evidence.Bundle{}, malformed(fmt.Sprintf("the annotations of attestation %s: %v", layer.Digest, err),
				fmt.Sprintf("at most %d strings", maxAnnotations))
		}
		content, err := f.layer(ctx, layer, nil)
		if err != nil {
			return evidence.Bundle{}, err
		}
		bundle, err := attached.Bundle(content, annotations)
		if err != nil {
			return evidence.Bundle{}, malformed(fmt.Sprintf("attestation %s: %s", layer.Digest, bounded.Text(err.Error(), 300)), "a DSSE envelope as cosign attaches it")
		}
		return evidence.Bundle{JSON: bundle}, nil
	}
}

// keepAttachments reads the payloads of signatures, as far as there is room.
func (f *fetch) keepAttachments(ctx context.Context, layers []descriptor, r *room) {
	read := each(f, f.fit("signatures", layers, r), func(layer descriptor) (evidence.Attachment, error) {
		annotations, err := bounded.Strings(layer.Annotations, maxAnnotations)
		if err != nil {
			return evidence.Attachment{}, malformed(fmt.Sprintf("the annotations of signature %s: %v", layer.Digest, err),
				fmt.Sprintf("at most %d strings", maxAnnotations))
		}
		payload, err := f.layer(ctx, layer, f.usual())
		return evidence.Attachment{MediaType: layer.MediaType, Payload: payload, Annotations: annotations}, err
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attachments = append(f.attachments, read...)
}

// usual is what cosign signs about the digest unless it is told to say more (cosign's
// SIGNATURE_SPEC). Whether a signature is over it, its listing tells by the digest.
func (f *fetch) usual() []byte {
	host := f.registry
	if host == "docker.io" {
		host = "index.docker.io"
	}
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"%s/%s"},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}`,
		host, f.path, f.digest)
}

// layer gets the content of an entry: a guess, or what the entry itself has, if that has
// the entry's digest (OCI image spec, "Content Descriptors", data), and else the blob.
func (f *fetch) layer(ctx context.Context, d descriptor, guess []byte) ([]byte, error) {
	var data []byte
	_ = json.Unmarshal(d.Data, &data) // what is not base64 says nothing
	for _, known := range [][]byte{guess, data} {
		if int64(len(known)) == d.Size && d.Digest == fmt.Sprintf("sha256:%x", sha256.Sum256(known)) {
			return known, nil
		}
	}
	return f.blob(ctx, d.Digest, d.Size)
}

// annotated says whether the annotations of a signature are within their bound,
// and within what is left of that of all.
func (f *fetch) annotated(layer descriptor, left int) bool {
	if layer.weight() <= min(maxAnnotationBytes, left) {
		return true
	}
	f.found(malformed(fmt.Sprintf("signature %.80q has annotations of %d bytes", layer.Digest, layer.weight()),
		fmt.Sprintf("at most %d, and at most %d of all signatures", maxAnnotationBytes, maxContent)))
	return false
}

// tagged asks for what cosign (suffix ".sig") and the referrers tag schema of OCI
// 1.1 (no suffix) keep under a tag that is made from a digest.
func (f *fetch) tagged(suffix string) query {
	return query{path: "manifests/" + tagOf(f.digest) + suffix, accept: manifestTypes,
		needs: docker.HostCapabilityPull | docker.HostCapabilityResolve}
}
