package judge

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"fmt"

	"countersign/gate/internal/evidence"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
)

// What cosign 1 and 2 put beside the signature of an attachment (cosign,
// specs/SIGNATURE_SPEC.md).
const (
	certificateAnnotation = "dev.sigstore.cosign/certificate"
	chainAnnotation       = "dev.sigstore.cosign/chain"
	entryAnnotation       = "dev.sigstore.cosign/bundle"
	timestampAnnotation   = "dev.sigstore.cosign/rfc3161timestamp"
)

// oldestBundleType is the version of bundles that holds just what an attachment can:
// a log entry without a proof of inclusion.
const oldestBundleType = "application/vnd.dev.sigstore.bundle+json;version=0.1"

// errNoCertificate: an attachment that was signed with a key.
var errNoCertificate = errors.New("signed with a key and no certificate")

// bundleOfAttachment gives what an attachment says as the bundle that says the same: a
// signature over the payload's SHA-256. Anything that is not exactly as cosign writes it
// is an error.
func bundleOfAttachment(a evidence.Attachment) (*bundle.Bundle, []*x509.Certificate, error) {
	if a.Annotations[certificateAnnotation] == "" {
		return nil, nil, errNoCertificate
	}
	leaf, err := certificates(a.Annotations[certificateAnnotation])
	if err != nil || len(leaf) != 1 {
		return nil, nil, errors.Join(fmt.Errorf("its annotation %s does not hold one certificate", certificateAnnotation), err)
	}
	chain, err := certificates(a.Annotations[chainAnnotation])
	if err != nil {
		return nil, nil, fmt.Errorf("its annotation %s: %w", chainAnnotation, err)
	}
	signature, err := attachmentSignature(a)
	if err != nil {
		return nil, nil, err
	}
	entries, err := entryOfAttachment(a.Annotations[entryAnnotation])
	if err != nil {
		return nil, nil, fmt.Errorf("its annotation %s: %w", entryAnnotation, err)
	}
	timestamps, err := timestampOfAttachment(a.Annotations[timestampAnnotation])
	if err != nil {
		return nil, nil, fmt.Errorf("its annotation %s: %w", timestampAnnotation, err)
	}
	sum := sha256.Sum256(a.Payload)
	read, err := bundle.NewBundle(&protobundle.Bundle{
		MediaType: oldestBundleType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:                   &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: leaf[0].Raw}},
			TlogEntries:               entries,
			TimestampVerificationData: &protobundle.TimestampVerificationData{Rfc3161Timestamps: timestamps},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
			Signature:     signature,
		}},
	})
	return read, chain, err
}

// certificates reads PEM blocks CERTIFICATE and nothing else; none from "".
func certificates(text string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := []byte(text); len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		switch block, rest = pem.Decode(rest); {
		case block == nil:
			return nil, errors.New("text that is not PEM")
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("a PEM block %.40q where a certificate belongs", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// entryOfAttachment reads a log entry of Rekor v1 with the time that the log has signed.
func entryOfAttachment(text string) ([]*protorekor.TransparencyLogEntry, error) {
	if text == "" {
		return nil, nil
	}
	var form struct {
		Promise []byte `json:"SignedEntryTimestamp"`
		Payload struct {
			Body  []byte `json:"body"`
			Time  int64  `json:"integratedTime"`
			Index int64  `json:"logIndex"`
			LogID string `json:"logID"`
		} `json:"Payload"`
	}
	if err := json.Unmarshal([]byte(text), &form, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("it is no log entry: %w", err)
	}
	var body struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := scan(form.Payload.Body); err != nil {
		return nil, fmt.Errorf("its log entry cannot be read: %w", err)
	}
	if err := json.Unmarshal(form.Payload.Body, &body); err != nil {
		return nil, fmt.Errorf("its log entry cannot be read: %w", err)
	}
	logID, err := hex.DecodeString(form.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("its log's ID cannot be read: %w", err)
	}
	if body.Kind != "hashedrekord" || body.APIVersion != "0.0.1" {
		return nil, fmt.Errorf("it is a log entry of kind %.40q %.40q, not hashedrekord 0.0.1", body.Kind, body.APIVersion)
	}
	return []*protorekor.TransparencyLogEntry{{
		LogIndex: form.Payload.Index, LogId: &protocommon.LogId{KeyId: logID},
		KindVersion:    &protorekor.KindVersion{Kind: body.Kind, Version: body.APIVersion},
		IntegratedTime: form.Payload.Time, CanonicalizedBody: form.Payload.Body,
		InclusionPromise: &protorekor.InclusionPromise{SignedEntryTimestamp: form.Promise},
	}}, nil
}

func timestampOfAttachment(text string) ([]*protocommon.RFC3161SignedTimestamp, error) {
	if text == "" {
		return nil, nil
	}
	var form struct {
		Signed string `json:"SignedRFC3161Timestamp"`
	}
	if err := json.Unmarshal([]byte(text), &form, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("it is no timestamp: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(form.Signed)
	if err != nil {
		return nil, fmt.Errorf("it is no base64: %w", err)
	}
	return []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: raw}}, nil
}
