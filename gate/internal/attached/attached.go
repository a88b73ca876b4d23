// Package attached reads what cosign 1 and 2 put beside what they attach to an image, in
// annotations of a layer (cosign, specs/SIGNATURE_SPEC.md and ATTESTATION_SPEC.md).
// Anything that is not exactly as cosign writes it is an error. It verifies nothing.
package attached

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"countersign/gate/internal/bounded"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// The annotations.
const (
	certificateAnnotation = "dev.sigstore.cosign/certificate"
	chainAnnotation       = "dev.sigstore.cosign/chain"
	entryAnnotation       = "dev.sigstore.cosign/bundle"
	timestampAnnotation   = "dev.sigstore.cosign/rfc3161timestamp"
)

// What the body of a log entry holds at most.
const (
	maxValues = 4096
	maxDepth  = 24
)

// BundleType is the version of bundles that holds just what annotations can: a log entry
// without a proof of inclusion.
const BundleType = "application/vnd.dev.sigstore.bundle+json;version=0.1"

// Material is what is beside a signature. All of it may be missing.
type Material struct {
	Leaf       *x509.Certificate
	Chain      []*x509.Certificate
	Entries    []*protorekor.TransparencyLogEntry
	Timestamps []*protocommon.RFC3161SignedTimestamp
}

// Read reads the annotations; kinds are those of log entries that fit what was signed.
func Read(annotations map[string]string, kinds ...string) (m Material, err error) {
	if text := annotations[certificateAnnotation]; text != "" {
		leaf, err := certificates(text)
		if err != nil || len(leaf) != 1 {
			return m, errors.Join(fmt.Errorf("its annotation %s does not hold one certificate", certificateAnnotation), err)
		}
		m.Leaf = leaf[0]
	}
	if m.Chain, err = certificates(annotations[chainAnnotation]); err != nil {
		return m, fmt.Errorf("its annotation %s: %w", chainAnnotation, err)
	}
	if m.Entries, err = entry(annotations[entryAnnotation], kinds); err != nil {
		return m, fmt.Errorf("its annotation %s: %w", entryAnnotation, err)
	}
	if m.Timestamps, err = timestamp(annotations[timestampAnnotation]); err != nil {
		return m, fmt.Errorf("its annotation %s: %w", timestampAnnotation, err)
	}
	return m, nil
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

// entry reads a log entry of Rekor v1 with the time that the log has signed.
func entry(text string, kinds []string) ([]*protorekor.TransparencyLogEntry, error) {
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
		return nil, fmt.Errorf("it is not a log entry: %w", err)
	}
	var body struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := bounded.Values(form.Payload.Body, maxValues, maxDepth); err != nil {
		return nil, fmt.Errorf("its log entry cannot be read: %w", err)
	}
	if err := json.Unmarshal(form.Payload.Body, &body); err != nil {
		return nil, fmt.Errorf("its log entry cannot be read: %w", err)
	}
	logID, err := hex.DecodeString(form.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("its log's ID cannot be read: %w", err)
	}
	if !slices.Contains(kinds, body.Kind+" "+body.APIVersion) {
		return nil, fmt.Errorf("it is a log entry of kind %.40q %.40q, not %s", body.Kind, body.APIVersion, strings.Join(kinds, " or "))
	}
	return []*protorekor.TransparencyLogEntry{{
		LogIndex: form.Payload.Index, LogId: &protocommon.LogId{KeyId: logID},
		KindVersion:    &protorekor.KindVersion{Kind: body.Kind, Version: body.APIVersion},
		IntegratedTime: form.Payload.Time, CanonicalizedBody: form.Payload.Body,
		InclusionPromise: &protorekor.InclusionPromise{SignedEntryTimestamp: form.Promise},
	}}, nil
}

func timestamp(text string) ([]*protocommon.RFC3161SignedTimestamp, error) {
	if text == "" {
		return nil, nil
	}
	var form struct {
		Signed string `json:"SignedRFC3161Timestamp"`
	}
	if err := json.Unmarshal([]byte(text), &form, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("it is not a timestamp: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(form.Signed)
	if err != nil {
		return nil, fmt.Errorf("it is not base64: %w", err)
	}
	return []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: raw}}, nil
}
