package attached

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"
)

// EnvelopeType is the media type of layers that hold an attestation.
const EnvelopeType = "application/vnd.dsse.envelope.v1+json"

// Around gives what goes before and after a DSSE envelope to make it the bundle that
// says what the envelope and its annotations say: the envelope's own bytes stay.
func Around(annotations map[string]string) (before, after []byte, err error) {
	const empty = `{"payload":"e30=","signatures":[{"sig":""}]}`
	document, err := Bundle([]byte(empty), annotations)
	if err != nil {
		return nil, nil, err
	}
	var form struct {
		Envelope  jsontext.Value `json:"dsseEnvelope"`
		MediaType string         `json:"mediaType"`
		Material  jsontext.Value `json:"verificationMaterial"`
	}
	if err := json.Unmarshal(document, &form); err != nil {
		return nil, nil, err
	}
	return fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":%s,"dsseEnvelope":`, form.MediaType, form.Material), []byte("}"), nil
}

// Bundle gives what an attached DSSE envelope and its annotations say as the bundle that
// says the same; what was signed stays as it is. Equal ones give equal bytes.
func Bundle(envelope []byte, annotations map[string]string) ([]byte, error) {
	var form struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []struct {
			Signature []byte `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(envelope, &form); err != nil {
		return nil, fmt.Errorf("it is not a DSSE envelope: %w", err)
	}
	if len(form.Signatures) != 1 {
		return nil, fmt.Errorf("it has %d DSSE signatures, not one", len(form.Signatures))
	}
	if len(form.Payload) == 0 {
		return nil, errors.New("it has no payload")
	}
	beside, err := Read(annotations, "intoto 0.0.2", "dsse 0.0.1")
	if err != nil {
		return nil, err
	}
	message := &protobundle.Bundle{
		MediaType: BundleType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			TlogEntries:               beside.Entries,
			TimestampVerificationData: &protobundle.TimestampVerificationData{Rfc3161Timestamps: beside.Timestamps},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			PayloadType: form.PayloadType, Payload: form.Payload, Signatures: []*protodsse.Signature{{Sig: form.Signatures[0].Signature}},
		}},
	}
	if beside.Leaf == nil {
		message.VerificationMaterial.Content = &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{}}
	} else {
		chain := &protocommon.X509CertificateChain{Certificates: []*protocommon.X509Certificate{{RawBytes: beside.Leaf.Raw}}}
		for _, c := range beside.Chain {
			chain.Certificates = append(chain.Certificates, &protocommon.X509Certificate{RawBytes: c.Raw})
		}
		message.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: chain}
	}
	document, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	value := jsontext.Value(document) // protojson puts blanks where it likes
	return value, value.Canonicalize()
}
