package judge

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"

	"countersign/gate/internal/attached"
	"countersign/gate/internal/evidence"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
)

// errNoCertificate: an attachment that was signed with a key.
var errNoCertificate = errors.New("signed with a key and no certificate")

// bundleOfAttachment gives what an attachment says as the bundle that says the same: a
// signature over the payload's SHA-256. Anything that is not exactly as cosign writes it
// is an error.
func bundleOfAttachment(a evidence.Attachment) (*bundle.Bundle, []*x509.Certificate, error) {
	beside, err := attached.Read(a.Annotations, "hashedrekord 0.0.1")
	switch {
	case err != nil:
		return nil, nil, err
	case beside.Leaf == nil:
		return nil, nil, errNoCertificate
	}
	signature, err := attachmentSignature(a)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(a.Payload)
	read, err := bundle.NewBundle(&protobundle.Bundle{
		MediaType: attached.BundleType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:                   &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: beside.Leaf.Raw}},
			TlogEntries:               beside.Entries,
			TimestampVerificationData: &protobundle.TimestampVerificationData{Rfc3161Timestamps: beside.Timestamps},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
			Signature:     signature,
		}},
	})
	return read, beside.Chain, err
}
