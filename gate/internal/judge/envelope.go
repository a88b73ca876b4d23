package judge

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/reference"

	"github.com/fxamacker/cbor/v2"
	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What an envelope may hold at most, so that to verify it costs little.
const (
	maxChain   = 8    // certificates
	maxKeyBits = 8192 // of an RSA key in one of them

	envelopeWeight = 5 // what a byte of CBOR stands for in memory, over one of JSON
)

// readEnvelope is one Notary Project envelope as it was read, once for a whole judgement.
// Nothing in it is verified.
type readEnvelope struct {
	evidence.Envelope
	chain  []*x509.Certificate // leaf first
	target ocispec.Descriptor  // what it signs; it names no repository
	err    error               // why it can't be the signature of any image
}

// envelope reads an envelope of the set when it is first asked for.
func (m *material) envelope(e evidence.Envelope) *readEnvelope {
	id := e.ID()
	if m.enveloped[id] == nil {
		m.enveloped[id] = parseEnvelope(e)
	}
	return m.enveloped[id]
}

func parseEnvelope(e evidence.Envelope) *readEnvelope {
	read := &readEnvelope{Envelope: e}
	var payload []byte
	var chain [][]byte
	switch e.MediaType {
	case jws.MediaTypeEnvelope:
		payload, chain, read.err = openJWS(e.Raw)
	case cose.MediaTypeEnvelope:
		payload, chain, read.err = openCOSE(e.Raw)
	default:
		read.err = fmt.Errorf("it is of type %.80q", e.MediaType)
	}
	if read.err == nil {
		read.chain, read.err = readChain(chain)
	}
	if read.err == nil {
		read.target, read.err = readTarget(payload)
	}
	return read
}

// openJWS gives payload and certificates of a JWS in its flattened form (RFC 7515, 7.2.2).
func openJWS(raw []byte) (payload []byte, chain [][]byte, err error) {
	var form struct {
		Payload   string `json:"payload"`
		Protected string `json:"protected"`
		Header    struct {
			Chain [][]byte `json:"x5c"`
		} `json:"header"`
	}
	if err := scan(raw); err != nil {
		return nil, nil, fmt.Errorf("it is not a JWS: %w", err)
	}
	if err := json.Unmarshal(raw, &form); err != nil {
		return nil, nil, fmt.Errorf("it is not a JWS: %w", err)
	}
	protected, err := base64.RawURLEncoding.DecodeString(form.Protected)
	if err == nil {
		err = scan(protected)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("its protected header cannot be read: %w", err)
	}
	payload, err = base64.RawURLEncoding.DecodeString(form.Payload)
	return payload, form.Header.Chain, err
}

// small reads CBOR that is neither deep nor wide: what a few bytes of it stand for in
// memory stays in proportion.
var small = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64, DupMapKey: cbor.DupMapKeyEnforcedAPF}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// chainLabel is the unprotected header that holds the certificates (RFC 9360, x5chain).
const chainLabel = 33

// openCOSE gives payload and certificates of a COSE_Sign1 (RFC 9052, 4.2).
func openCOSE(raw []byte) (payload []byte, chain [][]byte, err error) {
	var message struct {
		_           struct{} `cbor:",toarray"`
		Protected   []byte
		Unprotected map[any]cbor.RawMessage
		Payload     []byte
		Signature   []byte
	}
	var tagged cbor.RawTag
	if err := small.Unmarshal(raw, &tagged); err != nil || tagged.Number != 18 {
		return nil, nil, errors.Join(errors.New("it is not a COSE_Sign1"), err)
	}
	if err := small.Unmarshal(tagged.Content, &message); err != nil {
		return nil, nil, fmt.Errorf("it is not a COSE_Sign1: %w", err)
	}
	var protected map[any]cbor.RawMessage
	if err := small.Unmarshal(message.Protected, &protected); err != nil {
		return nil, nil, fmt.Errorf("its protected header cannot be read: %w", err)
	}
	certificates := message.Unprotected[uint64(chainLabel)]
	if err := small.Unmarshal(certificates, &chain); err != nil {
		var one []byte
		if err := small.Unmarshal(certificates, &one); err != nil {
			return nil, nil, errors.New("it has no certificates")
		}
		chain = [][]byte{one}
	}
	return message.Payload, chain, nil
}

func readChain(raw [][]byte) ([]*x509.Certificate, error) {
	if len(raw) == 0 || len(raw) > maxChain {
		return nil, fmt.Errorf("it has %d certificates, expected 1 to %d", len(raw), maxChain)
	}
	var chain []*x509.Certificate
	for _, der := range raw {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("its certificates cannot be read: %w", err)
		}
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxKeyBits {
			return nil, fmt.Errorf("a certificate of it has an RSA key of %d bits, expected at most %d", key.N.BitLen(), maxKeyBits)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// readTarget reads what an envelope signs before anything verified it: notation-go holds
// the very payload against the image later.
func readTarget(payload []byte) (ocispec.Descriptor, error) {
	var form struct {
		Target ocispec.Descriptor `json:"targetArtifact"`
	}
	if err := scan(payload); err != nil {
		return form.Target, fmt.Errorf("its payload cannot be read: %w", err)
	}
	if err := json.Unmarshal(payload, &form); err != nil {
		return form.Target, fmt.Errorf("its payload cannot be read: %w", err)
	}
	if err := reference.CheckDigest(form.Target.Digest.String()); err != nil {
		return form.Target, fmt.Errorf("its payload is about no image: %w", err)
	}
	return form.Target, nil
}

// content gives what notation-go reads in the envelope, not verified.
func (e *readEnvelope) content() (*signature.EnvelopeContent, error) {
	parsed, err := signature.ParseEnvelope(e.MediaType, e.Raw)
	if err != nil {
		return nil, err
	}
	return parsed.Content()
}
