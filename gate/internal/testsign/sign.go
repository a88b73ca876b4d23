// Package testsign makes what tests judge: keys, policies, signatures in both
// formats, and registries that serve them. Nothing outside tests imports it.
package testsign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"testing"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"

	sigstore "github.com/sigstore/sigstore/pkg/signature"
)

// The media types and names of cosign's formats.
const (
	SignatureType       = "application/vnd.dev.cosign.artifact.sig.v1+json"
	SimpleSigning       = "application/vnd.dev.cosign.simplesigning.v1+json"
	BundleType          = "application/vnd.dev.sigstore.bundle.v0.3+json"
	SignPredicate       = "https://sigstore.dev/cosign/sign/v1"
	SignatureAnnotation = "dev.cosignproject.cosign/signature"
)

// Key is a key pair that signs.
type Key struct {
	Private     crypto.Signer
	PEM         string // of the public key
	Fingerprint string // sha256:<hex> of the DER SubjectPublicKeyInfo
	Hash        crypto.Hash
	der         []byte
}

// NewKey makes an ECDSA P-256 key.
func NewKey(t testing.TB) Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return newKey(t, private, crypto.SHA256, err)
}

// NewKeyOf makes a key of one of the kinds p256, p384, p521, rsa2048, ed25519.
// The larger curves sign bundles with the hash of their size.
func NewKeyOf(t testing.TB, kind string) Key {
	t.Helper()
	switch kind {
	case "p384":
		private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		return newKey(t, private, crypto.SHA384, err)
	case "p521":
		private, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		return newKey(t, private, crypto.SHA512, err)
	case "rsa2048":
		private, err := rsa.GenerateKey(rand.Reader, 2048)
		return newKey(t, private, crypto.SHA256, err)
	case "ed25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return newKey(t, private, crypto.SHA256, err)
	}
	return NewKey(t)
}

func newKey(t testing.TB, private crypto.Signer, hash crypto.Hash, err error) Key {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return Key{
		Private: private, Hash: hash, der: der, Fingerprint: Digest(der),
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}
}

func (k Key) sign(t testing.TB, message []byte, hash crypto.Hash) []byte {
	t.Helper()
	signer, err := sigstore.LoadSigner(k.Private, hash)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signer.SignMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Payload gives the "simple signing" payload for repository and digest.
func Payload(repository, digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},`+
		`"type":"cosign container image signature"},"optional":null}`, repository, digest)
}

// Attachment signs (repository, digest) in the format of cosign before version 3.
func Attachment(t testing.TB, key Key, repository, digest string) evidence.Attachment {
	t.Helper()
	return AttachmentOf(t, key, Payload(repository, digest))
}

// AttachmentOf signs any payload.
func AttachmentOf(t testing.TB, key Key, payload []byte) evidence.Attachment {
	t.Helper()
	signature := base64.StdEncoding.EncodeToString(key.sign(t, payload, crypto.SHA256))
	return evidence.Attachment{MediaType: SimpleSigning, Payload: payload,
		Annotations: map[string]string{SignatureAnnotation: signature}}
}

// Statement gives the in-toto statement of cosign 3 for digest.
func Statement(digest, predicateType string) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q},"annotations":{}}],`+
		`"predicateType":%q,"predicate":{}}`, digest[len("sha256:"):], predicateType)
}

// Bundle signs digest as cosign 3 does.
func Bundle(t testing.TB, key Key, digest string) evidence.Bundle {
	t.Helper()
	return BundleOf(t, key, Statement(digest, SignPredicate))
}

// BundleOf signs any statement.
func BundleOf(t testing.TB, key Key, statement []byte) evidence.Bundle {
	t.Helper()
	return WrapBundle(t, key, statement, key.sign(t, PAE(statement), key.Hash))
}

// PAE gives the bytes that a DSSE envelope with this statement signs.
func PAE(statement []byte) []byte {
	const payloadType = "application/vnd.in-toto+json"
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(statement), statement)
}

// WrapBundle makes a bundle that says that key has signed statement with signature.
func WrapBundle(t testing.TB, key Key, statement []byte, signatures ...[]byte) evidence.Bundle {
	t.Helper()
	hint := sha256.Sum256(key.der)
	var list []map[string]any
	for _, signature := range signatures {
		list = append(list, map[string]any{"sig": signature})
	}
	data, err := json.Marshal(map[string]any{
		"mediaType":            BundleType,
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": base64.StdEncoding.EncodeToString(hint[:])}},
		"dsseEnvelope":         map[string]any{"payload": statement, "payloadType": "application/vnd.in-toto+json", "signatures": list},
	})
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Bundle{JSON: data}
}

// Manifest gives a small image manifest, which differs for each marker.
func Manifest(marker string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[]}`, Digest([]byte(marker)))
}

// Digest gives sha256:<hex> of data.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PolicyDoc is a policy in the making.
type PolicyDoc struct {
	Roots   map[string][]Key
	Scopes  map[string]any // {"anyOf": […]} and so on
	Pinned  []string
	Keys    []string // revoked
	Digests []string // revoked

	Others       map[string]any // further roots, as rendered
	Certificates []any          // revoked
}

// Parse makes it a policy.
func (d PolicyDoc) Parse(t testing.TB) *policy.Policy {
	t.Helper()
	roots := map[string]any{}
	for name, keys := range d.Roots {
		var pems []string
		for _, key := range keys {
			pems = append(pems, key.PEM)
		}
		roots[name] = map[string]any{"publicKey": map[string]any{"keys": pems}}
	}
	maps.Copy(roots, d.Others)
	data, err := json.Marshal(map[string]any{"version": policy.Version, "roots": roots, "scopes": d.Scopes, "pinned": list(d.Pinned),
		"revoked": map[string]any{"keys": list(d.Keys), "certificates": append([]any{}, d.Certificates...), "digests": list(d.Digests)}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func list(items []string) []string { return append([]string{}, items...) }

// StatementOf gives an in-toto statement about digests, in a version of the form.
func StatementOf(t testing.TB, form, predicateType string, predicate any, digests ...string) []byte {
	t.Helper()
	subjects := []any{}
	for _, digest := range digests {
		subjects = append(subjects, map[string]any{"name": "registry.example/app", "digest": map[string]any{"sha256": digest[len("sha256:"):]}})
	}
	data, err := json.Marshal(map[string]any{"_type": "https://in-toto.io/Statement/" + form, "subject": subjects,
		"predicateType": predicateType, "predicate": predicate})
	if err != nil {
		t.Fatal(err)
	}
	return data
}
