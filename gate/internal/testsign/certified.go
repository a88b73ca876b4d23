package testsign

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"countersign/gate/internal/evidence"

	"github.com/sigstore/sigstore-go/pkg/tlog"
)

// Proof is what proves the time of a signature, or leaves it out. Each part can be one
// that was made for another signature.
type Proof struct {
	Log, TSA *Authority // nil: no entry, no timestamp
	At       time.Time  // of the log entry; zero: now

	// Other is the signature and statement (or payload) that entry and timestamp are for.
	Other *Content

	ChangeEntry func(map[string]any) // before it is written
	ChangeStamp func([]byte) []byte
}

// Content is what was signed, and the signature.
type Content struct {
	Signed, Signature []byte
	By                Signer
}

// entry is a log entry of Rekor v1 with all its proofs.
type entry struct {
	body       []byte
	promise    []byte
	integrated int64
	logID      []byte
	proof      map[string]any
	kind       string
}

func (a *Authority) entry(t testing.TB, kind string, spec map[string]any, at time.Time) entry {
	t.Helper()
	if at.IsZero() {
		at = time.Now()
	}
	body, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": kind, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	e := entry{body: body, integrated: at.Unix(), kind: kind, logID: keyID(t, a.logKey)}
	if e.promise, err = a.services.RekorSignPayload(tlog.RekorPayload{Body: b64(body), IntegratedTime: e.integrated, LogID: hex.EncodeToString(e.logID)}); err != nil {
		t.Fatal(err)
	}
	proof, err := a.services.GetInclusionProof(body)
	if err != nil {
		t.Fatal(err)
	}
	root, err := hex.DecodeString(*proof.RootHash)
	if err != nil {
		t.Fatal(err)
	}
	e.proof = map[string]any{"logIndex": "0", "treeSize": "1", "rootHash": root, "hashes": []string{},
		"checkpoint": map[string]any{"envelope": *proof.Checkpoint}}
	return e
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// CertifiedBundle signs digest with a certificate, as cosign 3 does.
func CertifiedBundle(t testing.TB, s Signer, digest string, p Proof) evidence.Bundle {
	t.Helper()
	return CertifiedBundleOf(t, s.Content(t, Statement(digest, SignPredicate)), p)
}

// Content signs a statement.
func (s Signer) Content(t testing.TB, statement []byte) Content {
	t.Helper()
	return Content{statement, s.sign(t, PAE(statement), s.Hash), s}
}

// CertifiedBundleOf puts content and proofs into a bundle.
func CertifiedBundleOf(t testing.TB, c Content, p Proof) evidence.Bundle {
	t.Helper()
	material := map[string]any{"certificate": map[string]any{"rawBytes": c.By.Certificate.Raw}}
	proven := c
	if p.Other != nil {
		proven = *p.Other
	}
	if p.Log != nil {
		envelope, err := json.Marshal(map[string]any{"payload": proven.Signed, "payloadType": "application/vnd.in-toto+json",
			"signatures": []any{map[string]any{"sig": proven.Signature}}})
		if err != nil {
			t.Fatal(err)
		}
		e := p.Log.entry(t, "dsse", map[string]any{
			"envelopeHash": map[string]any{"algorithm": "sha256", "value": hexSum(envelope)},
			"payloadHash":  map[string]any{"algorithm": "sha256", "value": hexSum(proven.Signed)},
			"signatures":   []any{map[string]any{"signature": b64(proven.Signature), "verifier": b64([]byte(CertificatePEM(proven.By.Certificate)))}},
		}, p.At)
		written := map[string]any{"logIndex": "0", "logId": map[string]any{"keyId": e.logID}, "integratedTime": e.integrated,
			"kindVersion": map[string]any{"kind": e.kind, "version": "0.0.1"}, "canonicalizedBody": e.body,
			"inclusionPromise": map[string]any{"signedEntryTimestamp": e.promise}, "inclusionProof": e.proof}
		if p.ChangeEntry != nil {
			p.ChangeEntry(written)
		}
		material["tlogEntries"] = []any{written}
	}
	if p.TSA != nil {
		material["timestampVerificationData"] = map[string]any{"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": p.stamp(t, proven.Signature)}}}
	}
	data, err := json.Marshal(map[string]any{"mediaType": BundleType, "verificationMaterial": material, "dsseEnvelope": map[string]any{
		"payload": c.Signed, "payloadType": "application/vnd.in-toto+json", "signatures": []any{map[string]any{"sig": c.Signature}}}})
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Bundle{JSON: data}
}

func (p Proof) stamp(t testing.TB, signature []byte) []byte {
	t.Helper()
	stamp, err := p.TSA.services.TimestampResponse(signature)
	if err != nil {
		t.Fatal(err)
	}
	if p.ChangeStamp != nil {
		stamp = p.ChangeStamp(stamp)
	}
	return stamp
}

// CertifiedAttachment signs (repository, digest) with a certificate, as cosign 1 and 2 do.
func CertifiedAttachment(t testing.TB, s Signer, repository, digest string, p Proof) evidence.Attachment {
	t.Helper()
	a := AttachmentOf(t, s.Key, Payload(repository, digest))
	a.Annotations["dev.sigstore.cosign/certificate"] = CertificatePEM(s.Certificate)
	a.Annotations["dev.sigstore.cosign/chain"] = ""
	signature, err := base64.StdEncoding.DecodeString(a.Annotations[SignatureAnnotation])
	if err != nil {
		t.Fatal(err)
	}
	proven := Content{a.Payload, signature, s}
	if p.Other != nil {
		proven = *p.Other
	}
	if p.Log != nil {
		e := p.Log.entry(t, "hashedrekord", map[string]any{
			"data": map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": hexSum(proven.Signed)}},
			"signature": map[string]any{"content": b64(proven.Signature),
				"publicKey": map[string]any{"content": b64([]byte(CertificatePEM(proven.By.Certificate)))}},
		}, p.At)
		written := map[string]any{"SignedEntryTimestamp": e.promise, "Payload": map[string]any{"body": e.body,
			"integratedTime": e.integrated, "logIndex": 0, "logID": hex.EncodeToString(e.logID)}}
		if p.ChangeEntry != nil {
			p.ChangeEntry(written)
		}
		a.Annotations["dev.sigstore.cosign/bundle"] = text(t, written)
	}
	if p.TSA != nil {
		a.Annotations["dev.sigstore.cosign/rfc3161timestamp"] = text(t, map[string]any{"SignedRFC3161Timestamp": p.stamp(t, proven.Signature)})
	}
	return a
}

// SignedPayload signs an attachment's payload.
func (s Signer) SignedPayload(t testing.TB, payload []byte) Content {
	t.Helper()
	return Content{payload, s.sign(t, payload, crypto.SHA256), s}
}

func text(t testing.TB, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Envelope attests as cosign 1 and 2 do: a DSSE envelope, what is beside it in annotations.
func Envelope(t testing.TB, c Content, p Proof) evidence.Attachment {
	t.Helper()
	envelope := text(t, map[string]any{"payloadType": "application/vnd.in-toto+json", "payload": c.Signed,
		"signatures": []any{map[string]any{"keyid": "", "sig": c.Signature}}})
	a := evidence.Attachment{MediaType: "application/vnd.dsse.envelope.v1+json", Payload: []byte(envelope),
		Annotations: map[string]string{SignatureAnnotation: ""}}
	if c.By.Certificate != nil {
		a.Annotations["dev.sigstore.cosign/certificate"] = CertificatePEM(c.By.Certificate)
		a.Annotations["dev.sigstore.cosign/chain"] = ""
	}
	if p.Log != nil {
		e := p.Log.entry(t, "dsse", map[string]any{
			"envelopeHash": map[string]any{"algorithm": "sha256", "value": hexSum([]byte(envelope))},
			"payloadHash":  map[string]any{"algorithm": "sha256", "value": hexSum(c.Signed)},
			"signatures":   []any{map[string]any{"signature": b64(c.Signature), "verifier": b64([]byte(CertificatePEM(c.By.Certificate)))}},
		}, p.At)
		written := map[string]any{"SignedEntryTimestamp": e.promise, "Payload": map[string]any{"body": e.body,
			"integratedTime": e.integrated, "logIndex": 0, "logID": hex.EncodeToString(e.logID)}}
		if p.ChangeEntry != nil {
			p.ChangeEntry(written)
		}
		a.Annotations["dev.sigstore.cosign/bundle"] = text(t, written)
	}
	return a
}
