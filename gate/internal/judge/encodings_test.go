package judge_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"

	"github.com/sigstore/sigstore/pkg/signature"
)

// envelope is the part of a bundle that surrounds what is signed.
type envelope = map[string]any

// around changes what surrounds the signed bytes of a bundle.
func around(t *testing.T, b evidence.Bundle, change func(bundle, dsse, signature envelope)) evidence.Bundle {
	t.Helper()
	var doc envelope
	if err := json.Unmarshal(b.JSON, &doc); err != nil {
		t.Fatal(err)
	}
	dsse := doc["dsseEnvelope"].(envelope)
	change(doc, dsse, dsse["signatures"].([]any)[0].(envelope))
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Bundle{JSON: data}
}

// urlSafe is a base64 text in the other alphabet, without padding.
func urlSafe(text any) string {
	raw, _ := base64.StdEncoding.DecodeString(text.(string))
	return base64.RawURLEncoding.EncodeToString(raw)
}

// What surrounds the signed bytes is written in several ways by the tools in use, and
// proves nothing. The same change around the bytes of another key stays refused.
func TestEnvelopesAreReadAsTheToolsWriteThem(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(bundle, dsse, signature envelope)
	}{
		{"as cosign writes it", func(_, _, _ envelope) {}},
		{"an empty key ID", func(_, _, s envelope) { s["keyid"] = "" }},
		{"a key ID that names nothing we know", func(_, _, s envelope) { s["keyid"] = "SHA256:abcdef" }},
		{"members that this version does not know", func(b, d, s envelope) {
			b["note"], d["note"], s["note"] = envelope{"a": []any{1, nil}}, "x", true
			b["verificationMaterial"].(envelope)["note"] = 1
		}},
		{"the media type by its other name", func(b, _, _ envelope) {
			b["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.3"
		}},
		{"base64 in the alphabet of URLs, unpadded", func(_, d, s envelope) {
			d["payload"], s["sig"] = urlSafe(d["payload"]), urlSafe(s["sig"])
		}},
		{"no hint", func(b, _, _ envelope) { b["verificationMaterial"] = envelope{"publicKey": envelope{}} }},
		{"empty lists", func(b, _, _ envelope) {
			b["verificationMaterial"].(envelope)["tlogEntries"] = []any{}
			b["verificationMaterial"].(envelope)["timestampVerificationData"] = envelope{}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.put(t, around(t, testsign.Bundle(t, s.key, s.digest()), test.change))
			allowed(t, s.judge(t), code.OK)

			s = newScene(t)
			s.put(t, around(t, testsign.Bundle(t, s.other, s.digest()), test.change))
			refused(t, s.judge(t), code.BadSignature, "")
		})
	}
}

// The statement itself is signed: nothing in it is put right.
func TestNothingThatIsSignedIsConverted(t *testing.T) {
	for name, change := range map[string]func(text string) string{
		"an unknown member of the statement": func(text string) string { return strings.Replace(text, `{`, `{"note":1,`, 1) },
		"a repeated member of the statement": func(text string) string {
			return strings.Replace(text, `{`, `{"predicateType":"`+testsign.SignPredicate+`",`, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.put(t, testsign.BundleOf(t, s.key, []byte(change(string(testsign.Statement(s.digest(), testsign.SignPredicate))))))
			refused(t, s.judge(t), code.Malformed, "signed with a trusted key, but refused")
		})
	}
}

// Keys sign bundles with any algorithm that Sigstore's registry has for their kind.
func TestOtherAlgorithmsOfAKey(t *testing.T) {
	ed, rsaKey := testsign.NewKeyOf(t, "ed25519"), testsign.NewKeyOf(t, "rsa2048")
	ph, err := signature.LoadED25519phSigner(ed.Private.(ed25519.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	pss, err := signature.LoadRSAPSSSigner(rsaKey.Private.(*rsa.PrivateKey), crypto.SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		key    testsign.Key
		signer signature.Signer
	}{{"ed25519ph", ed, ph}, {"rsa-pss", rsaKey, pss}} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			statement := testsign.Statement(s.digest(), testsign.SignPredicate)
			raw, err := test.signer.SignMessage(bytes.NewReader(testsign.PAE(statement)))
			if err != nil {
				t.Fatal(err)
			}
			s.put(t, testsign.WrapBundle(t, test.key, statement, raw))
			refused(t, s.judge(t), code.BadSignature, "")
			s.doc.Roots["team-key"] = []testsign.Key{test.key}
			allowed(t, s.judge(t), code.OK)
		})
	}
}

// The engine of attachments reads one hash; who signed over another is told so.
func TestAnAttachmentOverAnotherHashIsNamed(t *testing.T) {
	s := newScene(t)
	s.key = testsign.NewKeyOf(t, "p384")
	s.doc.Roots["team-key"] = []testsign.Key{s.key}
	signer, err := signature.LoadSigner(s.key.Private, crypto.SHA384)
	if err != nil {
		t.Fatal(err)
	}
	payload := testsign.Payload(repository, s.digest())
	raw, err := signer.SignMessage(bytes.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	s.put(t, evidence.Attachment{MediaType: testsign.SimpleSigning, Payload: payload,
		Annotations: map[string]string{testsign.SignatureAnnotation: base64.StdEncoding.EncodeToString(raw)}})
	refused(t, s.judge(t), code.Malformed, "over SHA-384")
	s.put(t, testsign.Attachment(t, s.key, repository, s.digest()))
	allowed(t, s.judge(t), code.OK)
}

// bomb is a bundle of about a mebibyte whose units decode to many times their size.
func bomb(before, unit, after string, number int) evidence.Bundle {
	n := (1<<20 - len(before) - len(after)) / len(unit)
	return evidence.Bundle{JSON: fmt.Appendf(nil, "%*s%s%s%s", number, "", before, strings.Repeat(unit, n-number), after)}
}

const (
	bombMaterial = `{"mediaType":"` + testsign.BundleType + `","verificationMaterial":{"publicKey":{"hint":"x"}`
	bombEnvelope = `},"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"eA=="}]}}`
)

var bombs = []struct{ name, before, unit, after string }{
	{"log entries", bombMaterial + `,"tlogEntries":[{}`, `,{}`, `]` + bombEnvelope},
	{"timestamps", bombMaterial + `,"timestampVerificationData":{"rfc3161Timestamps":[{}`, `,{}`, `]}` + bombEnvelope},
	{"signatures", bombMaterial + `},"dsseEnvelope":{"payload":"e30=","payloadType":"x","signatures":[{}`, `,{}`, `]}}`},
	{"unknown members", bombMaterial + `,"x":[0`, `,0`, `]` + bombEnvelope},
	{"nesting", bombMaterial + `,"x":`, `[`, ``},
}

// allocated is how many bytes a piece of work takes in all, not at once.
func allocated(work func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A few bytes may stand for a hundred times as many, and every root, pass and
// diagnosis asks for the same bundles: what one refusal takes stays near what it reads.
func TestBundlesThatDecodeToMoreAreRefusedUnread(t *testing.T) {
	for _, test := range bombs {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			names := []string{"team-key"}
			for i := range 3 {
				names = append(names, fmt.Sprint("r", i))
				s.doc.Roots[names[i+1]] = []testsign.Key{testsign.NewKey(t)}
			}
			s.doc.Scopes[repository] = map[string]any{"anyOf": names}
			var items []any
			for i := range 3 {
				items = append(items, bomb(test.before, test.unit, test.after, i))
			}
			s.registry.sets[s.digest()] = setOf(s.manifest, items...)
			var o judge.Outcome
			if took := allocated(func() { o = s.judge(t) }); took > 96<<20 {
				t.Errorf("%d MiB for 3 MiB of bundles", took>>20)
			}
			refused(t, o, code.Malformed, "bundle")
			// The twin: a signature beside them counts.
			s.put(t, testsign.Bundle(t, s.key, s.digest()))
			allowed(t, s.judge(t), code.OK)
		})
	}
}

// A statement that is not a signature of an image may be large, and is not read.
func TestALargeAttestationIsNotRead(t *testing.T) {
	s := newScene(t)
	large := strings.Replace(string(testsign.Statement(s.digest(), "https://spdx.dev/Document")), `"predicate":{}`,
		`"predicate":{"files":[{}`+strings.Repeat(",{}", 60_000)+`]}`, 1)
	s.put(t, testsign.BundleOf(t, s.key, []byte(large)))
	var o judge.Outcome
	if took := allocated(func() { o = s.judge(t) }); took > 48<<20 {
		t.Errorf("%d MiB for an attestation of %d bytes", took>>20, len(large))
	}
	refused(t, o, code.Unsigned, "https://spdx.dev/Document")
}

func TestASignatureWithALargePredicateIsMalformed(t *testing.T) {
	for values, want := range map[int]code.Code{5000: code.Malformed, 500: code.OK} {
		s := newScene(t)
		s.put(t, testsign.BundleOf(t, s.key, []byte(strings.Replace(string(testsign.Statement(s.digest(), testsign.SignPredicate)),
			`"predicate":{}`, `"predicate":{"a":[0`+strings.Repeat(",0", values)+`]}`, 1))))
		if want == code.OK {
			allowed(t, s.judge(t), want)
		} else {
			refused(t, s.judge(t), want, "more than")
		}
	}
}

// A judgement that has no time left says so, and stops looking.
func TestAJudgementEndsWithItsDeadline(t *testing.T) {
	s := newScene(t)
	s.put(t, testsign.Bundle(t, s.other, s.digest()))
	refused(t, s.judge(t), code.BadSignature, "")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := judge.New(evidence.Collector{Store: s.store}).Judge(ctx, s.doc.Parse(t), s.request)
	refused(t, o, code.Timeout, "not done in time")
	if o.Settled {
		t.Error("it would be remembered")
	}
}

// The digest of a manifest of Docker's schema 1 is not that of its bytes: a signature of
// its bytes signs no image.
func TestManifestsOfSchema1AreNotJudged(t *testing.T) {
	for manifest, want := range map[string]code.Code{
		`{"schemaVersion":1,"name":"app","tag":"v1","fsLayers":[],"history":[],"signatures":[]}`:                                 code.Malformed,
		`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"size":2},"layers":[]}`: code.OK,
	} {
		s := newScene(t)
		s.manifest = []byte(manifest)
		s.request.Manifest = testsign.Digest(s.manifest)
		s.put(t, testsign.Attachment(t, s.key, repository, s.digest()))
		if want == code.OK {
			allowed(t, s.judge(t), want)
		} else {
			refused(t, s.judge(t), want, "schema 1")
		}
	}
}
