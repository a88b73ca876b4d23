package judge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/reference"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
)

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	statementType = "https://in-toto.io/Statement/v1"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

// parseBundle reads a Sigstore bundle v0.3 with a DSSE envelope of one signature.
func parseBundle(b evidence.Bundle) (*bundle.Bundle, error) {
	var parsed bundle.Bundle
	if err := parsed.UnmarshalJSON(b.JSON); err != nil {
		return nil, fmt.Errorf("it is no Sigstore bundle: %w", err)
	}
	if parsed.MediaType != bundleType {
		return nil, fmt.Errorf("it is a bundle of type %.80q, not %s", parsed.MediaType, bundleType)
	}
	if n := len(parsed.GetDsseEnvelope().GetSignatures()); n != 1 {
		return nil, fmt.Errorf("it has %d DSSE signatures, not one", n)
	}
	return &parsed, nil
}

// acceptBundle returns nil if sigstore-go finds that key has signed the bundle
// for this very digest, and it is the signature of an image. No log entry and no
// timestamp is asked for, as a key is good at all times until it is revoked.
func acceptBundle(b *bundle.Bundle, digest string, key policy.Key) error {
	raw, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return err
	}
	result, err := verifyWith(b, key, verify.NewPolicy(verify.WithArtifactDigest("sha256", raw), verify.WithKey()))
	if err != nil {
		return err
	}
	signed := statementOf(result.Statement)
	switch {
	case signed.kind != statementType:
		return fmt.Errorf("its statement is of type %.80q, not %s", signed.kind, statementType)
	case signed.predicateType != signPredicate:
		return fmt.Errorf("predicate type %q is no signature of an image", signed.predicateType)
	case signed.subject != digest:
		return fmt.Errorf("the subject is %q, not %s", signed.subject, digest)
	}
	return nil
}

// signedEnvelope says whether key has signed the bundle, for whatever image. For
// the diagnosis only.
func signedEnvelope(b *bundle.Bundle, key policy.Key) bool {
	_, err := verifyWith(b, key, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithKey()))
	return err == nil
}

// verifyWith verifies under one key, with each hash that signers use with it.
func verifyWith(b *bundle.Bundle, key policy.Key, what verify.PolicyBuilder) (*verify.VerificationResult, error) {
	verifiers, err := dsseVerifiers(key.Public)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, v := range verifiers {
		material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
			return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
		})
		engine, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
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

// dsseVerifiers gives verifiers for the key: with SHA-256, which cosign used for
// any key, and for larger curves with the hash of Sigstore's algorithm registry.
func dsseVerifiers(key crypto.PublicKey) ([]sigstore.Verifier, error) {
	hashes := []crypto.Hash{crypto.SHA256}
	if ec, ok := key.(*ecdsa.PublicKey); ok {
		switch ec.Curve {
		case elliptic.P384():
			hashes = append(hashes, crypto.SHA384)
		case elliptic.P521():
			hashes = append(hashes, crypto.SHA512)
		}
	}
	var verifiers []sigstore.Verifier
	for _, hash := range hashes {
		v, err := sigstore.LoadVerifier(key, hash)
		if err != nil {
			return nil, err
		}
		verifiers = append(verifiers, v)
	}
	return verifiers, nil
}

// statement is what an in-toto statement says that it is about.
type statement struct {
	kind          string
	predicateType string
	subject       string // sha256:<hex>; "" unless there is exactly one, with a sha256 digest
}

// readStatement reads a bundle's statement before anything verified it.
func readStatement(b *bundle.Bundle) (statement, error) {
	envelope, err := b.Envelope()
	if err != nil {
		return statement{}, fmt.Errorf("it has no DSSE envelope: %w", err)
	}
	content, err := envelope.Statement()
	if err != nil {
		return statement{}, fmt.Errorf("its payload is no in-toto statement: %w", err)
	}
	return statementOf(content), nil
}

func statementOf(content *intoto.Statement) statement {
	s := statement{kind: content.GetType(), predicateType: content.GetPredicateType()}
	if len(content.GetSubject()) == 1 {
		subject := "sha256:" + content.GetSubject()[0].GetDigest()["sha256"]
		if reference.CheckDigest(subject) == nil {
			s.subject = subject
		}
	}
	return s
}
