package testsign

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"countersign/gate/internal/evidence"

	"github.com/digitorus/timestamp"
	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/tspclient-go"
)

// The media types of Notary Project envelopes.
const (
	JWS          = jws.MediaTypeEnvelope
	COSE         = cose.MediaTypeEnvelope
	NotationType = "application/vnd.cncf.notary.signature"
)

// Notary is one Notary Project signature in the making.
type Notary struct {
	By        Signer
	Chain     []*x509.Certificate // after the signer's own
	MediaType string
	Scheme    signature.SigningScheme
	Manifest  []byte // that it is about
	Digest    string // instead of that of Manifest
	At        time.Time
	Expiry    time.Time
	More      []signature.Attribute
	Stamp     *Stamper // nil: no timestamp
}

// SubjectOf makes a certificate's subject C=FI, O=Acme and that name.
func SubjectOf(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{Country: []string{"FI"}, Organization: []string{"Acme"}, CommonName: name}
	}
}

// Envelope signs.
func (n Notary) Envelope(t testing.TB) evidence.Envelope {
	t.Helper()
	digest := n.Digest
	if digest == "" {
		digest = Digest(n.Manifest)
	}
	payload, err := json.Marshal(map[string]any{"targetArtifact": map[string]any{
		"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": len(n.Manifest)}})
	if err != nil {
		t.Fatal(err)
	}
	return n.EnvelopeOf(t, payload)
}

// EnvelopeOf signs any payload.
func (n Notary) EnvelopeOf(t testing.TB, payload []byte) evidence.Envelope {
	t.Helper()
	signer, err := signature.NewLocalSigner(append([]*x509.Certificate{n.By.Certificate}, n.Chain...), n.By.Private)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := signature.NewEnvelope(n.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	request := &signature.SignRequest{Payload: signature.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: payload},
		Signer: signer, SigningTime: n.At, Expiry: n.Expiry, SigningScheme: n.Scheme, ExtendedSignedAttributes: n.More, SigningAgent: "test"}
	if n.Stamp != nil {
		request.Timestamper, request.TSARootCAs = n.Stamp, x509.NewCertPool()
		request.TSARootCAs.AddCert(n.Stamp.Root)
	}
	raw, err := envelope.Sign(request)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Envelope{MediaType: n.MediaType, Raw: raw}
}

// Stamper is a timestamp authority (RFC 3161) whose clock can be set.
type Stamper struct {
	Root, Leaf *x509.Certificate
	At         time.Time
	rootKey    crypto.Signer
	key        crypto.Signer
}

// NewStamper makes one whose certificate is of this day, and is changed before it is issued.
func NewStamper(t testing.TB, change func(*x509.Certificate)) *Stamper {
	t.Helper()
	rootKey, key := ecKey(t), ecKey(t)
	from, to := time.Now().Add(-1000*24*time.Hour), time.Now().Add(1000*24*time.Hour)
	top := &x509.Certificate{SerialNumber: serial(t), Subject: pkix.Name{CommonName: "root of timestamps"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	leaf := &x509.Certificate{SerialNumber: serial(t), Subject: pkix.Name{CommonName: "timestamps"}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{timestamping(t)}}
	if change != nil {
		change(leaf)
	}
	s := &Stamper{rootKey: rootKey, key: key, At: time.Now()}
	s.Root = issue(t, top, top, rootKey.Public(), rootKey)
	s.Leaf = issue(t, leaf, s.Root, key.Public(), rootKey)
	return s
}

// timestamping is the extended key usage of timestamp authorities, critical as RFC 3161 has it.
func timestamping(t testing.TB) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: value}
}

// Timestamp implements tspclient.Timestamper.
func (s *Stamper) Timestamp(_ context.Context, request *tspclient.Request) (*tspclient.Response, error) {
	stamp := timestamp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: request.MessageImprint.HashedMessage, Time: s.At,
		Nonce: request.Nonce, Policy: asn1.ObjectIdentifier{1, 2, 3}, AddTSACertificate: true, SerialNumber: big.NewInt(1)}
	if len(stamp.HashedMessage) != sha256.Size {
		return nil, errors.New("not SHA-256")
	}
	raw, err := stamp.CreateResponseWithOpts(s.Leaf, s.key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	response := &tspclient.Response{}
	return response, response.UnmarshalBinary(raw)
}

// CRL gives the list of what the timestamp authority's root has revoked.
func (s *Stamper) CRL(t testing.TB, revoked ...*x509.Certificate) string {
	t.Helper()
	return crlBy(t, s.Root, s.rootKey, time.Now().Add(time.Hour), revoked...)
}

// RootCRL gives the list of what the authority's root has revoked.
func (a *Authority) RootCRL(t testing.TB, next time.Time, revoked ...*x509.Certificate) string {
	t.Helper()
	return crlBy(t, a.Root, a.rootKey, next, revoked...)
}

// PartialCRL gives a list that says to be about a part of what the authority issued.
func (a *Authority) PartialCRL(t testing.TB) string {
	t.Helper()
	next := time.Now().Add(time.Hour)
	return sealCRL(t, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: next.Add(-48 * time.Hour), NextUpdate: next,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0x03, 0x81, 0x01, 0xff}}}},
		a.Intermediate, a.intermediateKey)
}

func crlBy(t testing.TB, issuer *x509.Certificate, key crypto.Signer, next time.Time, revoked ...*x509.Certificate) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: next.Add(-48 * time.Hour), NextUpdate: next}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)})
	}
	return sealCRL(t, list, issuer, key)
}

func sealCRL(t testing.TB, list *x509.RevocationList, issuer *x509.Certificate, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// Envelopes pushes envelopes as referrers of digest, as notation does: the config says
// what they are. Where fallback is set they are listed under the fallback tag too.
func (p Pusher) Envelopes(t testing.TB, digest string, fallback bool, envelopes ...evidence.Envelope) {
	t.Helper()
	var listed []Descriptor
	for _, e := range envelopes {
		raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType,
			"config":  Descriptor{MediaType: NotationType, Digest: p.Blob(t, []byte("{}")), Size: 2},
			"layers":  []Descriptor{{MediaType: e.MediaType, Digest: p.Blob(t, e.Raw), Size: len(e.Raw)}},
			"subject": Descriptor{MediaType: manifestType, Digest: digest, Size: 1}})
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, Descriptor{MediaType: manifestType, Digest: p.Manifest(t, raw, manifestType, ""), Size: len(raw), ArtifactType: NotationType})
	}
	if fallback {
		p.Fallback(t, digest, listed...)
	}
}
