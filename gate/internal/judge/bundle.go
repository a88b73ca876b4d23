package judge

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/attached"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	statementType = "https://in-toto.io/Statement/v1"
	signPredicate = policy.SignPredicate
)

// statementTypes are those of attestations: signers of in-toto 0.x still write the older.
var statementTypes = []string{statementType, "https://in-toto.io/Statement/v0.1"}

// bundleTypes are the versions that are read; version 0.3 has two names.
var bundleTypes = []string{bundleType, "application/vnd.dev.sigstore.bundle+json;version=0.3",
	"application/vnd.dev.sigstore.bundle+json;version=0.2", attached.BundleType}

// readBundle is one bundle as it was read, once for a whole judgement.
type readBundle struct {
	id        string
	bundle    *bundle.Bundle // nil with err, and where it states what nobody asks for
	statement statement
	err       error // why it can't be the signature or attestation of any image
}

// parseBundle reads a Sigstore bundle v0.1 to v0.3 with a DSSE envelope of one signature over
// a statement of a predicate type that is wanted, such as that of signatures. What surrounds the signed bytes is normalised
// before sigstore-go sees it: members that this version of the format does not know
// are dropped, and so is the key ID of the envelope, which nothing signs and which
// signers fill as they like. The statement is handed on as it is.
func parseBundle(b evidence.Bundle, wanted []string, values int) *readBundle {
	read := &readBundle{id: b.ID()}
	read.bundle, read.statement, read.err = decodeBundle(b.JSON, wanted, values)
	return read
}

func decodeBundle(document []byte, wanted []string, values int) (*bundle.Bundle, statement, error) {
	message, err := decodeMessage(document)
	if err != nil {
		return nil, statement{}, err
	}
	envelope := message.GetDsseEnvelope()
	if envelope == nil {
		return nil, statement{}, errors.New("it has no DSSE envelope")
	}
	if n := len(envelope.GetSignatures()); n != 1 {
		return nil, statement{}, fmt.Errorf("it has %d DSSE signatures, not one", n)
	}
	envelope.Signatures[0].Keyid = ""
	signed, err := readStatement(envelope.GetPayload(), wanted, values)
	if err != nil || !slices.Contains(wanted, signed.predicateType) {
		return nil, signed, err
	}
	parsed, err := bundle.NewBundle(message)
	if err != nil {
		return nil, signed, fmt.Errorf("it is not a Sigstore bundle: %w", err)
	}
	return parsed, signed, nil
}

// decodeMessage reads a bundle of a version that is known, within the bounds of a signature.
func decodeMessage(document []byte) (*protobundle.Bundle, error) {
	if err := scan(document); err != nil {
		return nil, fmt.Errorf("it is not a Sigstore bundle: %w", err)
	}
	message := &protobundle.Bundle{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(document, message); err != nil {
		return nil, fmt.Errorf("it is not a Sigstore bundle: %w", err)
	}
	if !slices.Contains(bundleTypes, message.GetMediaType()) {
		return nil, fmt.Errorf("it is a bundle of type %.80q, not %s", message.GetMediaType(), bundleType)
	}
	return message, nil
}

// acceptBundle returns nil if sigstore-go finds that key has signed the bundle
// for this very digest, and it states what kind, a predicate type, says. No log entry and no
// timestamp is asked for, as a key is good at all times until it is revoked.
func acceptBundle(b *bundle.Bundle, kind, digest string, key policy.Key) error {
	raw, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return err
	}
	result, err := verifyWith(b, key, kind, verify.NewPolicy(verify.WithArtifactDigest("sha256", raw), verify.WithKey()))
	if err != nil {
		return err
	}
	return statementOf(result.Statement).about(kind, digest)
}

// signedEnvelope says whether key has signed what the bundle's envelope holds, whatever
// that says. For the diagnosis only.
func signedEnvelope(b *bundle.Bundle, key policy.Key) bool {
	verifiers, err := dsseVerifiers(key.Public)
	if err != nil {
		return false
	}
	envelope := b.GetDsseEnvelope()
	signed := dsse.PAE(envelope.GetPayloadType(), envelope.GetPayload())
	return slices.ContainsFunc(verifiers, func(v sigstore.Verifier) bool {
		return v.VerifySignature(bytes.NewReader(envelope.GetSignatures()[0].GetSig()), bytes.NewReader(signed)) == nil
	})
}

// verifyWith verifies under one key, with each hash that signers use with it.
func verifyWith(b *bundle.Bundle, key policy.Key, kind string, what verify.PolicyBuilder) (*verify.VerificationResult, error) {
	verifiers, err := dsseVerifiers(key.Public)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, v := range verifiers {
		material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
			return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
		})
		engine, err := verify.NewVerifier(material, append(reading(kind), verify.WithNoObserverTimestamps())...)
		if err != nil {
			return nil, err
		}
		result, err := engine.Verify(b, what)
		if err == nil {
			return result, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// reading says how sigstore-go reads statements: the predicates of attestations may be
// large, and it needs none of them.
func reading(kind string) []verify.VerifierOption {
	if kind == signPredicate {
		return nil
	}
	return []verify.VerifierOption{verify.WithoutStatementPredicate()}
}

// dsseVerifiers gives verifiers for the key: with SHA-256, which cosign used for
// any key, and with what Sigstore's algorithm registry has for keys of its kind.
func dsseVerifiers(key crypto.PublicKey) ([]sigstore.Verifier, error) {
	first, err := sigstore.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var more sigstore.Verifier
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P384():
			more, err = sigstore.LoadECDSAVerifier(key, crypto.SHA384)
		case elliptic.P521():
			more, err = sigstore.LoadECDSAVerifier(key, crypto.SHA512)
		}
	case *rsa.PublicKey:
		more, err = sigstore.LoadRSAPSSVerifier(key, crypto.SHA256, nil)
	case ed25519.PublicKey:
		more, err = sigstore.LoadED25519phVerifier(key)
	}
	if err != nil || more == nil {
		return []sigstore.Verifier{first}, err
	}
	return []sigstore.Verifier{first, more}, nil
}
