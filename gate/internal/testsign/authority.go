package testsign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
)

// Authority is a Sigstore of a test's own: certificates (with SCTs), a Rekor v1 log, and
// timestamps. Its parts can be taken from different ones, to make what must be refused.
type Authority struct {
	Root, Intermediate *x509.Certificate
	rootKey            *ecdsa.PrivateKey
	intermediateKey    *ecdsa.PrivateKey
	ctKey              *ecdsa.PrivateKey
	services           *ca.VirtualSigstore // log and timestamps
	logKey             crypto.PublicKey
	timestamps         *root.SigstoreTimestampingAuthority
}

// NewAuthority makes one whose certificates are valid from a day ago, for a year.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	return NewAuthorityOf(t, time.Now().Add(-24*time.Hour), time.Now().Add(365*24*time.Hour))
}

// NewAuthorityOf makes one whose intermediate certificate is valid from and to those times.
func NewAuthorityOf(t testing.TB, from, to time.Time) *Authority {
	t.Helper()
	services, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{services: services, intermediateKey: ecKey(t), ctKey: ecKey(t)}
	for _, log := range services.RekorLogs() {
		a.logKey = log.PublicKey
	}
	a.timestamps = services.TimestampingAuthorities()[0].(*root.SigstoreTimestampingAuthority)
	rootKey := ecKey(t)
	template := func(name string, from, to time.Time) *x509.Certificate {
		return &x509.Certificate{SerialNumber: serial(t), Subject: pkix.Name{CommonName: name, Organization: []string{"acme.example"}},
			NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	}
	top := template("root of the test", time.Now().Add(-1000*24*time.Hour), time.Now().Add(1000*24*time.Hour))
	a.rootKey = rootKey
	a.Root = issue(t, top, top, rootKey.Public(), rootKey)
	a.Intermediate = issue(t, template("intermediate of the test", from, to), a.Root, a.intermediateKey.Public(), rootKey)
	return a
}

// WithoutIntermediate gives the same authority, of whose certificates only the root is listed.
func (a *Authority) WithoutIntermediate() *Authority {
	bare := *a
	bare.Intermediate = nil
	return &bare
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return number.Add(number, big.NewInt(1))
}

func issue(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, private crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, private)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Signer is a key with a certificate.
type Signer struct {
	Key
	Certificate *x509.Certificate
}

// Person says what a certificate is to be about. What is zero is left out, but for the
// times (from a minute ago, for ten) and the usage (signing code).
type Person struct {
	URI, Email, DNS string
	More            []string // further e-mail addresses
	Issuer          string   // of the identity
	Ref             string
	From, To        time.Time
	Usage           []x509.ExtKeyUsage
	WithoutSCT      bool
	Kind            string                  // of the key, as NewKeyOf
	Change          func(*x509.Certificate) // the template, last of all; may be nil
}

var (
	issuerOID  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}
	refOID     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 14}
	sctListOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}
)

// Issue gives a key and a certificate for it.
func (a *Authority) Issue(t testing.TB, p Person) Signer {
	t.Helper()
	template := &x509.Certificate{SerialNumber: serial(t), NotBefore: p.From, NotAfter: p.To, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: p.Usage}
	if p.From.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(9*time.Minute)
	}
	if p.Usage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	template.EmailAddresses = p.More
	if p.Email != "" {
		template.EmailAddresses = append(template.EmailAddresses, p.Email)
	}
	if p.DNS != "" {
		template.DNSNames = []string{p.DNS}
	}
	if p.URI != "" {
		name, err := url.Parse(p.URI)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{name}
	}
	for _, claim := range []struct {
		id    asn1.ObjectIdentifier
		value string
	}{{issuerOID, p.Issuer}, {refOID, p.Ref}} {
		if claim.value != "" {
			template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: claim.id, Value: derString(t, claim.value)})
		}
	}
	if p.Change != nil {
		p.Change(template)
	}
	key := NewKeyOf(t, p.Kind)
	c := issue(t, template, a.Intermediate, key.Private.Public(), a.intermediateKey)
	if !p.WithoutSCT {
		template.ExtraExtensions = append(template.ExtraExtensions, a.sct(t, c))
		c = issue(t, template, a.Intermediate, key.Private.Public(), a.intermediateKey)
	}
	return Signer{key, c}
}

func derString(t testing.TB, text string) []byte {
	t.Helper()
	der, err := asn1.MarshalWithParams(text, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sct gives the extension with the CT log's signature over a certificate that has all
// but that (RFC 6962, 3.2 and 3.3).
func (a *Authority) sct(t testing.TB, c *x509.Certificate) pkix.Extension {
	t.Helper()
	issuerHash := sha256.Sum256(a.Intermediate.RawSubjectPublicKeyInfo)
	at := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))
	signed := append([]byte{0, 0}, at...)
	signed = append(append(signed, 0, 1), issuerHash[:]...)
	n := len(c.RawTBSCertificate)
	signed = append(append(signed, byte(n>>16), byte(n>>8), byte(n)), c.RawTBSCertificate...)
	signed = append(signed, 0, 0)
	sum := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, a.ctKey, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	id := keyID(t, a.ctKey.Public())
	sct := append(append(append([]byte{0}, id...), at...), 0, 0, 4, 3)
	sct = append(binary.BigEndian.AppendUint16(sct, uint16(len(signature))), signature...)
	list := append(binary.BigEndian.AppendUint16(nil, uint16(len(sct))), sct...)
	list = append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)
	der, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: sctListOID, Value: der}
}

func keyID(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return sum[:]
}

// Listed says which parts of an authority a trusted root lists.
type Listed struct {
	CA, CT, Log, TSA *Authority // nil: none
}

// TrustedRoot gives a trusted_root.json that lists all of the authority.
func (a *Authority) TrustedRoot(t testing.TB) json.RawMessage {
	t.Helper()
	return Listed{a, a, a, a}.TrustedRoot(t)
}

// TrustedRoot gives a trusted_root.json.
func (l Listed) TrustedRoot(t testing.TB) json.RawMessage {
	t.Helper()
	start := time.Now().Add(-48 * time.Hour)
	logOf := func(key crypto.PublicKey) map[string]*root.TransparencyLog {
		id := keyID(t, key)
		return map[string]*root.TransparencyLog{hex.EncodeToString(id): {BaseURL: "https://rekor.localhost", ID: id, ValidityPeriodStart: start,
			HashFunc: crypto.SHA256, PublicKey: key, SignatureHashFunc: crypto.SHA256}}
	}
	var cas []root.CertificateAuthority
	var tsas []root.TimestampingAuthority
	var logs, ctLogs map[string]*root.TransparencyLog
	if l.CA != nil {
		ca := &root.FulcioCertificateAuthority{Root: l.CA.Root, ValidityPeriodStart: start, URI: "https://fulcio.localhost"}
		if l.CA.Intermediate != nil {
			ca.Intermediates = []*x509.Certificate{l.CA.Intermediate}
		}
		cas = []root.CertificateAuthority{ca}
	}
	if l.CT != nil {
		ctLogs = logOf(l.CT.ctKey.Public())
	}
	if l.Log != nil {
		logs = logOf(l.Log.logKey)
	}
	if l.TSA != nil {
		tsas = []root.TimestampingAuthority{l.TSA.timestamps}
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, cas, ctLogs, tsas, logs)
	if err != nil {
		t.Fatal(err)
	}
	data, err := trusted.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TimestampPEM gives the certificates of the timestamp authority, its root last.
func (a *Authority) TimestampPEM() string {
	chain := append([]*x509.Certificate{a.timestamps.Leaf}, a.timestamps.Intermediates...)
	return CertificatePEM(append(chain, a.timestamps.Root)...)
}

// CertificatePEM gives PEM blocks.
func CertificatePEM(certificates ...*x509.Certificate) string {
	var text bytes.Buffer
	for _, c := range certificates {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return text.String()
}

// CRL gives the authority's list of revoked certificates, to be renewed at next.
func (a *Authority) CRL(t testing.TB, next time.Time, revoked ...*x509.Certificate) string {
	t.Helper()
	return crlBy(t, a.Intermediate, a.intermediateKey, next, revoked...)
}

// CRLSince is CRL with a time at which it was issued.
func (a *Authority) CRLSince(t testing.TB, issued, next time.Time) string {
	t.Helper()
	return sealCRL(t, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: issued, NextUpdate: next}, a.Intermediate, a.intermediateKey)
}

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
