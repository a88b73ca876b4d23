package judge

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/reference"

	sigstore "github.com/sigstore/sigstore/pkg/signature"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/signature"
)

const (
	signatureAnnotation = "dev.cosignproject.cosign/signature"
	simpleSigningType   = "application/vnd.dev.cosign.simplesigning.v1+json"
)

// acceptAttachments returns nil if containers/image accepts one of the set's
// attachments: a sigstoreSigned requirement with these keys, and exactRepository
// as the signed identity (containers-policy.json(5)).
func acceptAttachments(ctx context.Context, set evidence.Set, keys []policy.Key) (err error) {
	switch manifest.GuessMIMEType(set.Manifest) {
	case manifest.DockerV2Schema1MediaType, manifest.DockerV2Schema1SignedMediaType:
		// Their digest is not that of their bytes.
		return errors.New("a manifest of Docker's schema 1 cannot be judged")
	}
	dir, done, err := set.Dir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	reference, err := directory.NewReference(dir)
	if err != nil {
		return err
	}
	source, err := reference.NewImageSource(ctx, nil)
	if err != nil {
		return err
	}
	defer source.Close()
	engine, err := newEngine(set.Repository, keys)
	if err != nil {
		return err
	}
	defer engine.Destroy()
	allowed, err := engine.IsRunningImageAllowed(ctx, &knownManifest{image.UnparsedInstance(source, nil), set.Manifest})
	if err == nil && !allowed {
		err = errors.New("refused without a reason")
	}
	return err
}

func newEngine(repository string, keys []policy.Key) (*signature.PolicyContext, error) {
	identity, err := signature.NewPRMExactRepository(repository)
	if err != nil {
		return nil, err
	}
	var pems [][]byte
	for _, key := range keys {
		pems = append(pems, key.PEM)
	}
	signed, err := signature.NewPRSigstoreSigned(
		signature.PRSigstoreSignedWithKeyDatas(pems), signature.PRSigstoreSignedWithSignedIdentity(identity))
	if err != nil {
		return nil, err
	}
	return signature.NewPolicyContext(&signature.Policy{
		Default:    signature.PolicyRequirements{signature.NewPRReject()},
		Transports: map[string]signature.PolicyTransportScopes{directory.Transport.Name(): {"": {signed}}},
	})
}

// knownManifest is an image whose manifest is the bytes that were checked
// against the digest, whatever lies in the folder by now.
type knownManifest struct {
	*image.UnparsedImage
	raw []byte
}

// Manifest implements types.UnparsedImage.
func (k *knownManifest) Manifest(context.Context) ([]byte, string, error) {
	return k.raw, manifest.GuessMIMEType(k.raw), nil
}

// attachmentSignature gives the raw signature over the payload.
func attachmentSignature(a evidence.Attachment) ([]byte, error) {
	text, ok := a.Annotations[signatureAnnotation]
	if !ok {
		return nil, fmt.Errorf("it has no annotation %s", signatureAnnotation)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("its signature is not base64: %w", err)
	}
	return raw, nil
}

// claim is what a payload says that it signs. It is untrusted.
type claim struct {
	repository string
	digest     string
}

// simpleSigning is a payload (containers/image, docs/containers-signature.5.md).
type simpleSigning struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional jsontext.Value `json:"optional"`
}

// parsePayload reads a "simple signing" payload.
func parsePayload(payload []byte, how ...json.Options) (claim, error) {
	var form simpleSigning
	if err := json.Unmarshal(payload, &form, how...); err != nil {
		return claim{}, fmt.Errorf("its payload is not JSON of a signature: %w", err)
	}
	if form.Critical.Type != "cosign container image signature" {
		return claim{}, fmt.Errorf("its payload is of type %.80q", form.Critical.Type)
	}
	if err := reference.CheckDigest(form.Critical.Image.Digest); err != nil {
		return claim{}, fmt.Errorf("its payload names no image: %w", err)
	}
	name, err := reference.Parse(form.Critical.Identity.Reference)
	if err != nil {
		return claim{}, fmt.Errorf("its payload names no repository: %w", err)
	}
	return claim{repository: name.Repository, digest: form.Critical.Image.Digest}, nil
}

// signedPayload says whether key has signed payload. Cosign signs attachments over
// SHA-256, whatever the key. For the diagnosis only.
func signedPayload(key policy.Key, payload, raw []byte, hash crypto.Hash) bool {
	v, err := sigstore.LoadVerifier(key.Public, hash)
	return err == nil && v.VerifySignature(bytes.NewReader(raw), bytes.NewReader(payload)) == nil
}
