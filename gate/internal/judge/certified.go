package judge

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
)

// certified is one signature made with a certificate, of either format, as sigstore-go
// takes it.
type certified struct {
	format  string
	id      string
	entity  *bundle.Bundle
	leaf    *x509.Certificate
	chain   []*x509.Certificate // what came with it; nobody has to trust it
	payload []byte              // of an attachment; nil for a bundle
	image   claim               // what it signs; a bundle names no repository
	kind    string              // the predicate type of what it states: that of signatures, or an attestation's
	problem *finding            // why it can't be the signature of any image, or has no certificate
}

// certified yields the signatures of the set, attachments first, each read once a judgement.
func (m *material) certified(yield func(*certified) bool) {
	for _, a := range m.Attachments {
		id := a.ID()
		if m.attached[id] == nil {
			m.attached[id] = certifiedAttachment(a)
		}
		if !yield(m.attached[id]) {
			return
		}
	}
	for _, b := range m.bundles(context.Background()) {
		if !yield(certifiedBundle(b, m.kind, m.Digest)) {
			return
		}
	}
}

func certifiedAttachment(a evidence.Attachment) *certified {
	c := &certified{format: formatAttachment, id: a.ID(), payload: a.Payload, kind: signPredicate}
	var err error
	switch c.entity, c.chain, err = bundleOfAttachment(a); {
	case errors.Is(err, errNoCertificate):
		return c.fail(code.BadSignature, "%v, but the root asks for a certificate", err)
	case err != nil:
		return c.fail(code.Malformed, "%v", err)
	}
	if a.MediaType != simpleSigningType {
		return c.fail(code.Malformed, "it is of type %.80q, not %s", a.MediaType, simpleSigningType)
	}
	// As strictly as containers/image reads what keys have signed.
	if c.image, err = parsePayload(a.Payload, json.RejectUnknownMembers(true)); err != nil {
		return c.fail(code.Malformed, "%v", err)
	}
	return c.withLeaf()
}

// certifiedBundle reads a bundle as one that states what kind says, about that digest.
func certifiedBundle(b *readBundle, kind, digest string) *certified {
	c := &certified{format: formatBundle, id: b.id, entity: b.bundle, kind: kind, image: claim{digest: b.statement.first()}}
	if slices.Contains(b.statement.subjects, digest) {
		c.image.digest = digest
	}
	switch {
	case b.err != nil:
		return c.fail(code.Malformed, "%v", b.err)
	case b.statement.predicateType != kind:
		return c.fail(code.Unsigned, "an attestation of type %.200s is not a signature of the image", b.statement.predicateType)
	}
	if err := b.statement.wellFormed(); err != nil {
		return c.fail(code.Malformed, "%v", err)
	}
	for i, raw := range b.bundle.GetVerificationMaterial().GetX509CertificateChain().GetCertificates() {
		if i == 0 {
			continue
		}
		parsed, err := x509.ParseCertificate(raw.GetRawBytes())
		if err != nil {
			return c.fail(code.Malformed, "its chain cannot be read: %v", err)
		}
		c.chain = append(c.chain, parsed)
	}
	return c.withLeaf()
}

func (c *certified) withLeaf() *certified {
	content, err := c.entity.VerificationContent()
	if err != nil {
		return c.fail(code.Malformed, "its certificate cannot be read: %v", err)
	}
	if c.leaf = content.Certificate(); c.leaf == nil {
		return c.fail(code.BadSignature, "%v, but the root asks for a certificate", errNoCertificate)
	}
	// Go does not read names of the kind otherName, and calls them unhandled.
	c.leaf.UnhandledCriticalExtensions = slices.DeleteFunc(c.leaf.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool {
		return id.Equal(cryptoutils.SANOID)
	})
	return c
}

func (c *certified) fail(code code.Code, format string, args ...any) *certified {
	c.problem = &finding{code, fmt.Sprintf(format, args...)}
	return c
}

// forImage says what is wrong if the signature is not for this digest, in this
// repository where it names one.
func (c *certified) forImage(set *material) *finding {
	switch {
	case c.image.digest != set.Digest:
		return &finding{code.OtherImage, "a valid " + set.what() + " for digest " + c.image.digest + ", not " + set.Digest}
	case c.format == formatAttachment && c.image.repository != set.Repository:
		return &finding{code.OtherImage, "a valid signature for repository " + c.image.repository + ", not " + set.Repository}
	}
	return nil
}

// artifact tells sigstore-go what the signature must be over.
func (c *certified) artifact(digest string) (verify.ArtifactPolicyOption, error) {
	if c.format == formatAttachment {
		return verify.WithArtifact(bytes.NewReader(c.payload)), nil
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	return verify.WithArtifactDigest("sha256", raw), err
}

// signed returns nil if the certificate's key has signed the content, with any of the
// hashes that signers use with such keys.
func (c *certified) signed() error {
	content, err := c.entity.SignatureContent()
	if err != nil {
		return err
	}
	if envelope := content.EnvelopeContent(); envelope != nil && c.kind == signPredicate {
		// What sigstore-go reads in it counts, as for the other roots.
		statement, err := envelope.Statement()
		if err != nil {
			return err
		}
		if err := statementOf(statement).about(c.kind, c.image.digest); err != nil {
			return err
		}
	}
	verifiers, err := dsseVerifiers(c.leaf.PublicKey)
	if err != nil {
		return err
	}
	var failures []error
	for _, v := range verifiers {
		if err := c.signedWith(v, content); err == nil {
			return nil
		} else {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func (c *certified) signedWith(v sigstore.Verifier, content verify.SignatureContent) error {
	key := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
	})
	if c.format == formatAttachment {
		return verify.VerifySignatureWithArtifacts(content, leafKey{}, key, []io.Reader{bytes.NewReader(c.payload)})
	}
	return verify.VerifySignature(content, leafKey{}, key)
}

// leafKey has sigstore-go verify with the key of a certificate that was looked at before.
type leafKey struct{}

func (leafKey) CompareKey(any, root.TrustedMaterial) bool        { return false }
func (leafKey) ValidAtTime(time.Time, root.TrustedMaterial) bool { return true }
func (leafKey) Certificate() *x509.Certificate                   { return nil }
func (leafKey) Intermediates() []*x509.Certificate               { return nil }
func (leafKey) PublicKey() verify.PublicKeyProvider              { return leafKey{} }
func (leafKey) Hint() string                                     { return "" }

// namesOf lists the names of a certificate.
func namesOf(c *x509.Certificate) []policy.Name {
	var names []policy.Name
	for _, u := range c.URIs {
		names = append(names, policy.Name{Kind: policy.URI, Value: u.String()})
	}
	for _, address := range c.EmailAddresses {
		names = append(names, policy.Name{Kind: policy.Email, Value: address})
	}
	for _, name := range c.DNSNames {
		names = append(names, policy.Name{Kind: policy.DNS, Value: name})
	}
	for _, address := range c.IPAddresses {
		names = append(names, policy.Name{Kind: "ip", Value: address.String()})
	}
	if other, err := cryptoutils.UnmarshalOtherNameSAN(c.Extensions); err == nil && other != "" {
		names = append(names, policy.Name{Kind: policy.Other, Value: other})
	}
	return names
}

// shown lists names for a sentence.
func shown(names []policy.Name) string {
	if len(names) == 0 {
		return "nobody (its certificate has no name)"
	}
	var texts []string
	for i, name := range names {
		if i == maxNames {
			texts = append(texts, fmt.Sprintf("%d more", len(names)-i))
			break
		}
		texts = append(texts, fmt.Sprintf("%.200s", name.Value))
	}
	return strings.Join(texts, " and ")
}

const maxNames = 4 // that a sentence lists

// signsCode returns nil if a certificate may sign code: it says so itself, and is not
// that of an authority.
func signsCode(c *x509.Certificate) error {
	switch {
	case c.IsCA:
		return errors.New("it is the certificate of an authority, which signs no images")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("its certificate is not for signatures (key usage)")
	}
	for _, usage := range c.ExtKeyUsage {
		if usage == x509.ExtKeyUsageCodeSigning {
			return nil
		}
	}
	return errors.New("its certificate is not for signing code (extended key usage)")
}
