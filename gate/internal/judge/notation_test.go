package judge_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"

	"github.com/notaryproject/notation-core-go/signature"
)

// notarial is all that one Notary Project signature is made of. Each test changes one thing.
type notarial struct {
	scene
	authority, other *testsign.Authority
	person           testsign.Person
	issuedBy         *testsign.Authority
	sign             testsign.Notary
	change           func(*evidence.Envelope)
	root             map[string]any
}

func newNotarial(t testing.TB) *notarial {
	t.Helper()
	n := &notarial{scene: *newScene(t), authority: testsign.NewAuthority(t), other: testsign.NewAuthority(t)}
	n.issuedBy = n.authority
	n.person = testsign.Person{Change: testsign.SubjectOf("release"), WithoutSCT: true}
	n.sign = testsign.Notary{MediaType: testsign.JWS, Scheme: signature.SigningSchemeX509, Manifest: n.manifest, At: time.Now()}
	n.change = func(*evidence.Envelope) {}
	n.root = map[string]any{"roots": []string{testsign.CertificatePEM(n.authority.Root)}, "identities": []string{"x509.subject: C=FI, O=Acme, CN=release"}}
	return n
}

// past makes the certificate one of an hour that has gone, and the signature of within.
func (n *notarial) past() {
	n.person.From, n.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	n.sign.At = n.person.From.Add(time.Minute)
}

// stamped has a timestamp authority that is trusted put a time to the signature.
func (n *notarial) stamped(t testing.TB, at time.Time, change func(*x509.Certificate)) {
	n.sign.Stamp = testsign.NewStamper(t, change)
	n.sign.Stamp.At = at
	n.root["timestampRoots"] = []string{testsign.CertificatePEM(n.sign.Stamp.Root)}
}

// subject gives the signer's certificate another one.
func (n *notarial) subject(change func(*x509.Certificate)) {
	n.person.Change = func(c *x509.Certificate) {
		testsign.SubjectOf("release")(c)
		change(c)
	}
}

func (n *notarial) envelope(t testing.TB) evidence.Envelope {
	t.Helper()
	n.sign.By = n.issuedBy.Issue(t, n.person)
	if n.sign.Chain == nil {
		n.sign.Chain = []*x509.Certificate{n.issuedBy.Intermediate, n.issuedBy.Root}
	}
	e := n.sign.Envelope(t)
	n.change(&e)
	return e
}

func (n *notarial) trust() {
	n.doc.Others = map[string]any{"notary": map[string]any{"notation": n.root}}
	n.doc.Scopes = map[string]any{repository: map[string]any{"anyOf": []string{"notary"}}}
}

var notationCases = []struct {
	name   string
	change func(*testing.T, *notarial)
	want   code.Code
	saying string
}{
	{"right", func(*testing.T, *notarial) {}, code.OK, ""},
	{"right, P-384", func(_ *testing.T, n *notarial) { n.person.Kind = "p384" }, code.OK, ""},
	{"right, P-521", func(_ *testing.T, n *notarial) { n.person.Kind = "p521" }, code.OK, ""},
	{"right, RSA", func(_ *testing.T, n *notarial) { n.person.Kind = "rsa2048" }, code.OK, ""},
	{"right, by the second identity", func(_ *testing.T, n *notarial) {
		n.root["identities"] = []string{"x509.subject: C=FI, O=Acme, CN=other", "x509.subject: C=FI, O=Acme, CN=release"}
	}, code.OK, ""},
	{"right, by an identity with all that the specification asks for", func(_ *testing.T, n *notarial) {
		n.subject(func(c *x509.Certificate) { c.Subject.Province = []string{"Uusimaa"} })
		n.root["identities"] = []string{"x509.subject: C=FI, S=Uusimaa, O=Acme"}
	}, code.OK, ""},
	{"another identity", func(_ *testing.T, n *notarial) { n.person.Change = testsign.SubjectOf("dev") }, code.WrongIdentity, "CN=dev"},
	{"another identity, with all that the specification asks for", func(_ *testing.T, n *notarial) {
		n.subject(func(c *x509.Certificate) { c.Subject.Province = []string{"Lappi"} })
		n.root["identities"] = []string{"x509.subject: C=FI, S=Uusimaa, O=Acme"}
	}, code.WrongIdentity, "ST=Lappi"},
	{"two common names", func(_ *testing.T, n *notarial) {
		n.subject(func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "dev"},
				{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "release"}}
			c.Subject.CommonName = ""
		})
	}, code.WrongIdentity, "somebody else"},
	{"no name at all", func(_ *testing.T, n *notarial) { n.person.Change = nil }, code.WrongIdentity, "somebody else"},
	{"of another authority", func(_ *testing.T, n *notarial) { n.issuedBy = n.other }, code.UntrustedChain, "no trusted authority"},
	{"a chain that ends nowhere", func(_ *testing.T, n *notarial) {
		n.change = jwsHeader(func(h map[string]any) { h["x5c"] = h["x5c"].([]any)[:2] })
	}, code.UntrustedChain, "not a chain"},
	{"expired", func(_ *testing.T, n *notarial) { n.past() }, code.Expired, "expired at"},
	{"expired, and stamped in time", func(t *testing.T, n *notarial) { n.past(); n.stamped(t, n.sign.At, nil) }, code.OK, ""},
	{"expired, and stamped too late", func(t *testing.T, n *notarial) { n.past(); n.stamped(t, time.Now(), nil) }, code.Expired, "timestamp can be after"},
	{"expired, and stamped too early", func(t *testing.T, n *notarial) {
		n.past()
		n.stamped(t, n.person.From.Add(-time.Hour), nil)
	}, code.Expired, "timestamp can be before"},
	{"expired, and stamped by somebody else", func(t *testing.T, n *notarial) {
		n.past()
		n.stamped(t, n.sign.At, nil)
		n.root["timestampRoots"] = []string{testsign.CertificatePEM(testsign.NewStamper(t, nil).Root)}
	}, code.NoTrustedTime, "no trusted authority"},
	{"expired, and stamped where no timestamp counts", func(t *testing.T, n *notarial) {
		n.past()
		n.stamped(t, n.sign.At, nil)
		delete(n.root, "timestampRoots")
	}, code.Expired, "no timestampRoots"},
	{"expired, and not stamped where timestamps count", func(t *testing.T, n *notarial) {
		n.past()
		n.stamped(t, n.sign.At, nil)
		n.sign.Stamp = nil
	}, code.Expired, "no timestamp"},
	{"not yet valid", func(_ *testing.T, n *notarial) {
		n.person.From, n.person.To = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		n.sign.At = n.person.From.Add(time.Minute)
	}, code.Expired, "before certificate"},
	{"a signing time that nobody vouches for", func(_ *testing.T, n *notarial) {
		n.past() // it says that it was signed in time, as anybody could
	}, code.Expired, "expired at"},
	{"an expiry that is to come", func(_ *testing.T, n *notarial) { n.sign.Expiry = time.Now().Add(time.Hour) }, code.OK, ""},
	{"an expiry that has passed", func(_ *testing.T, n *notarial) {
		n.person.From, n.person.To = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		n.sign.At, n.sign.Expiry = time.Now().Add(-time.Minute), time.Now().Add(-time.Second)
	}, code.Expired, "expired on"},
	{"for another digest", func(_ *testing.T, n *notarial) { n.sign.Digest = testsign.Digest([]byte("other")) }, code.OtherImage, "for digest"},
	{"for another size", func(_ *testing.T, n *notarial) {
		n.sign.Manifest, n.sign.Digest = append(bytes.Clone(n.manifest), ' '), testsign.Digest(n.manifest)
	}, code.BadSignature, "mismatch"},
	{"a critical attribute that nobody knows", func(_ *testing.T, n *notarial) {
		n.sign.More = []signature.Attribute{{Key: "com.acme.condition", Value: "x", Critical: true}}
	}, code.BadSignature, "com.acme.condition"},
	{"an attribute that is not critical", func(_ *testing.T, n *notarial) {
		n.sign.More = []signature.Attribute{{Key: "com.acme.note", Value: "x"}}
	}, code.OK, ""},
	{"asks for a verification plugin", func(_ *testing.T, n *notarial) {
		n.sign.More = []signature.Attribute{{Key: "io.cncf.notary.verificationPlugin", Value: "x", Critical: true}}
	}, code.BadSignature, "plugin"},
	{"of a signing authority, where none is trusted", func(_ *testing.T, n *notarial) { n.sign.Scheme = signature.SigningSchemeX509SigningAuthority },
		code.UntrustedChain, "no trusted"},
	{"of a signing authority", func(_ *testing.T, n *notarial) {
		n.sign.Scheme = signature.SigningSchemeX509SigningAuthority
		n.root["signingAuthorities"] = n.root["roots"]
		delete(n.root, "roots")
	}, code.OK, ""},
	{"of a signing authority, whose time counts", func(_ *testing.T, n *notarial) {
		n.past()
		n.sign.Scheme = signature.SigningSchemeX509SigningAuthority
		n.root["signingAuthorities"] = n.root["roots"]
		delete(n.root, "roots")
	}, code.OK, ""},
	{"of a signing authority, trusted as a mere authority", func(_ *testing.T, n *notarial) {
		n.root["signingAuthorities"] = n.root["roots"]
		delete(n.root, "roots")
	}, code.UntrustedChain, "no trusted"},
}

func TestNotation(t *testing.T) {
	for _, mediaType := range []string{testsign.JWS, testsign.COSE} {
		for _, test := range notationCases {
			if mediaType == testsign.COSE && test.name == "a chain that ends nowhere" {
				continue // that changes the envelope as JSON
			}
			t.Run(strings.TrimPrefix(mediaType, "application/")+"/"+test.name, func(t *testing.T) {
				n := newNotarial(t)
				n.sign.MediaType = mediaType
				test.change(t, n)
				n.put(t, n.envelope(t))
				n.trust()
				o := n.judge(t)
				if test.want != code.OK {
					refused(t, o, test.want, test.saying)
					return
				}
				allowed(t, o, code.OK)
				if o.Format != "notation" || o.Root != "notary" || o.Source != "store" {
					t.Errorf("got %+v", o)
				}
			})
		}
	}
}

// jwsHeader changes the unprotected header of a JWS.
func jwsHeader(change func(map[string]any)) func(*evidence.Envelope) {
	return jwsMembers(func(m map[string]any) { change(m["header"].(map[string]any)) })
}

func jwsMembers(change func(map[string]any)) func(*evidence.Envelope) {
	return func(e *evidence.Envelope) {
		var members map[string]any
		if err := json.Unmarshal(e.Raw, &members); err != nil {
			panic(err)
		}
		change(members)
		e.Raw, _ = json.Marshal(members)
	}
}

func TestNotationThatWasChanged(t *testing.T) {
	text := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	tests := []struct {
		name   string
		change func(*testing.T, *notarial) func(*evidence.Envelope)
		want   code.Code
		saying string
	}{
		{"not at all", func(*testing.T, *notarial) func(*evidence.Envelope) { return func(*evidence.Envelope) {} }, code.OK, ""},
		{"its payload", func(_ *testing.T, n *notarial) func(*evidence.Envelope) {
			n.sign.Digest = testsign.Digest([]byte("other"))
			return jwsMembers(func(m map[string]any) {
				m["payload"] = text(`{"targetArtifact":{"digest":"` + n.digest() + `","mediaType":"application/vnd.oci.image.manifest.v1+json","size":1}}`)
			})
		}, code.Tampered, "does not hold"},
		{"its expiry", func(_ *testing.T, n *notarial) func(*evidence.Envelope) {
			n.sign.Expiry = time.Now().Add(time.Hour)
			return jwsMembers(func(m map[string]any) {
				protected, _ := base64.RawURLEncoding.DecodeString(m["protected"].(string))
				m["protected"] = text(strings.Replace(string(protected), `"io.cncf.notary.expiry":"2`, `"io.cncf.notary.expiry":"3`, 1))
			})
		}, code.Tampered, "does not hold"},
		{"its algorithm, to none", func(_ *testing.T, n *notarial) func(*evidence.Envelope) {
			return jwsMembers(func(m map[string]any) {
				protected, _ := base64.RawURLEncoding.DecodeString(m["protected"].(string))
				m["protected"] = text(strings.Replace(string(protected), "ES256", "none", 1))
				m["signature"] = ""
			})
		}, code.Tampered, ""},
		{"its certificates, for those of somebody trusted", func(t *testing.T, n *notarial) func(*evidence.Envelope) {
			good := n.authority.Issue(t, n.person)
			n.issuedBy = n.other
			return jwsHeader(func(h map[string]any) {
				h["x5c"] = []any{good.Certificate.Raw, n.authority.Intermediate.Raw, n.authority.Root.Raw}
			})
		}, code.Tampered, "does not hold"},
		{"a second header, of the right identity, that other readers see", func(t *testing.T, n *notarial) func(*evidence.Envelope) {
			// Readers that match names without their case take the last one.
			good := n.authority.Issue(t, n.person)
			n.person.Change = testsign.SubjectOf("dev")
			return func(e *evidence.Envelope) {
				chain, _ := json.Marshal([]any{good.Certificate.Raw, n.authority.Intermediate.Raw, n.authority.Root.Raw})
				e.Raw = bytes.Replace(e.Raw, []byte(`"header":`), []byte(`"header":{"x5c":`+string(chain)+`},"Header":`), 1)
			}
		}, code.WrongIdentity, "CN=dev"},
		{"its signature is nothing", func(*testing.T, *notarial) func(*evidence.Envelope) {
			return jwsMembers(func(m map[string]any) { m["signature"] = "" })
		}, code.Tampered, ""},
		{"too many certificates", func(*testing.T, *notarial) func(*evidence.Envelope) {
			return jwsHeader(func(h map[string]any) {
				for range 8 {
					h["x5c"] = append(h["x5c"].([]any), h["x5c"].([]any)[0])
				}
			})
		}, code.Malformed, "11 certificates"},
		{"no certificate", func(*testing.T, *notarial) func(*evidence.Envelope) {
			return jwsHeader(func(h map[string]any) { h["x5c"] = []any{} })
		}, code.Malformed, "0 certificates"},
		{"a certificate that is none", func(*testing.T, *notarial) func(*evidence.Envelope) {
			return jwsHeader(func(h map[string]any) { h["x5c"] = []any{"AAAA"} })
		}, code.Malformed, "certificates cannot be read"},
		{"nested beyond the bound", func(*testing.T, *notarial) func(*evidence.Envelope) {
			return func(e *evidence.Envelope) {
				e.Raw = []byte(strings.Repeat(`{"a":`, 4000) + "1" + strings.Repeat("}", 4000))
			}
		}, code.Malformed, "nested"},
		{"of another format", func(*testing.T, *notarial) func(*evidence.Envelope) {
			return func(e *evidence.Envelope) { e.MediaType = testsign.COSE }
		}, code.Malformed, "COSE_Sign1"},
		{"cut off", func(*testing.T, *notarial) func(*evidence.Envelope) {
			return func(e *evidence.Envelope) { e.Raw = e.Raw[:len(e.Raw)/2] }
		}, code.Malformed, "not a JWS"},
		{"about no image", func(t *testing.T, n *notarial) func(*evidence.Envelope) {
			return func(e *evidence.Envelope) {
				*e = n.sign.EnvelopeOf(t, []byte(`{"targetArtifact":{"digest":"sha256:ab"}}`))
			}
		}, code.Malformed, "no image"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNotarial(t)
			n.change = test.change(t, n)
			n.put(t, n.envelope(t))
			n.trust()
			if test.want == code.OK {
				allowed(t, n.judge(t), code.OK)
				return
			}
			refused(t, n.judge(t), test.want, test.saying)
		})
	}
}

func TestABadEnvelopeHidesNoGoodOne(t *testing.T) {
	n := newNotarial(t)
	good := n.envelope(t)
	n.person.Change = testsign.SubjectOf("dev")
	n.put(t, evidence.Envelope{MediaType: testsign.JWS, Raw: []byte("junk")}, n.envelope(t), good)
	n.trust()
	allowed(t, n.judge(t), code.OK)
	n.doc.Certificates = []any{testsign.Digest(testsign.NewAuthority(t).Root.Raw)}
	allowed(t, n.judge(t), code.OK)
	n.doc.Certificates = []any{testsign.Digest(n.authority.Intermediate.Raw)}
	refused(t, n.judge(t), code.Revoked, "by the policy")
}

// A Notary Project signature and one of cosign's each satisfy their own root, and neither
// the other's.
func TestNotationBesideOtherFormats(t *testing.T) {
	n := newNotarial(t)
	n.put(t, n.envelope(t))
	n.trust()
	n.doc.Scopes = map[string]any{repository: map[string]any{"anyOf": []string{"team-key"}}}
	refused(t, n.judge(t), code.Unsigned, "no signature")
	n.doc.Scopes = map[string]any{repository: map[string]any{"allOf": []string{"team-key", "notary"}}}
	refused(t, n.judge(t), code.Unsigned, "no signature")
	n.put(t, testsign.Bundle(t, n.key, n.digest()))
	o := n.judge(t)
	allowed(t, o, code.OK)
	if o.Root != "team-key,notary" || o.Format != "bundle,notation" {
		t.Errorf("got %+v", o)
	}
}

// The whole way: a registry, the store, a verdict; then the registry goes away.
func TestNotationFromTheRegistryAndThenOffline(t *testing.T) {
	for name, referrers := range map[string]bool{"with the referrers API": true, "without the referrers API": false} {
		t.Run(name, func(t *testing.T) {
			handler := testsign.Handler(referrers)
			server := httptest.NewServer(handler)
			defer server.Close()
			n := newNotarial(t)
			name := strings.TrimPrefix(server.URL, "http://") + "/demo/app"
			pusher := testsign.Pusher{Handler: handler, Path: "demo/app"}
			r := judge.Request{Repository: name, Manifest: pusher.Image(t, "image")}
			n.trust()
			n.doc.Scopes = map[string]any{name: map[string]any{"anyOf": []string{"notary"}}}
			j, p := judge.New(evidence.Collector{Store: n.store, Registry: registry.New(registry.Config{})}), n.doc.Parse(t)
			refused(t, j.Judge(t.Context(), p, r), code.Unsigned, "")
			pusher.Envelopes(t, r.Manifest, !referrers, n.envelope(t))
			o := j.Judge(t.Context(), p, r)
			allowed(t, o, code.OK)
			if o.Source != "registry" || o.Format != "notation" || o.StoreError != nil {
				t.Errorf("got %+v", o)
			}
			server.Close()
			o = j.Judge(t.Context(), p, r)
			allowed(t, o, code.OK)
			if o.Source != "store" {
				t.Errorf("source %s", o.Source)
			}
		})
	}
}

// An outcome lasts no longer than what it rests on.
func TestTheEndOfANotationVerdict(t *testing.T) {
	soon := time.Now().Add(5 * time.Minute).Truncate(time.Second)
	for _, test := range []struct {
		name   string
		change func(*notarial)
		within time.Duration // from now
	}{
		{"its certificate's", func(*notarial) {}, 9 * time.Minute},
		{"its own expiry", func(n *notarial) { n.sign.Expiry = soon }, 5 * time.Minute},
		{"its list's next update", func(n *notarial) { n.root["crls"] = []string{n.authority.CRL(t, soon)} }, 5 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNotarial(t)
			test.change(n)
			n.put(t, n.envelope(t))
			n.trust()
			o := n.judge(t)
			allowed(t, o, code.OK)
			if o.Expires.IsZero() || time.Until(o.Expires) > test.within || time.Until(o.Expires) < test.within-time.Minute {
				t.Errorf("it ends at %v", o.Expires)
			}
		})
	}
}

// Signatures of the notation CLI 1.3.2, through a plugin: a chain of an authority, and a
// certificate that signed its own.
func TestSignaturesOfNotationItself(t *testing.T) {
	for _, test := range []struct{ folder, identity string }{
		{"notation-jws-rsa2048", "x509.subject: C=DE, ST=BE, O=lab, CN=lab notation signer"},
		{"notation-jws-rsa4096-ps512", "x509.subject: C=DE, ST=BE, O=lab, CN=lab notation rsa4096"},
	} {
		t.Run(test.folder, func(t *testing.T) {
			raw := readFile(t, test.folder+"/envelope.jws.json")
			chain := chainOf(t, raw)
			root := map[string]any{"roots": []string{testsign.CertificatePEM(chain[len(chain)-1])}, "identities": []string{test.identity}}
			doc := testsign.PolicyDoc{Others: map[string]any{"notary": map[string]any{"notation": root}},
				Scopes: map[string]any{repository: map[string]any{"anyOf": []string{"notary"}}}}
			set := evidence.Set{Manifest: readFile(t, "image/manifest.json"), Envelopes: []evidence.Envelope{{MediaType: testsign.JWS, Raw: raw}}}
			want := code.OK
			if time.Now().After(chain[0].NotAfter) {
				want = code.Expired
			}
			if o := judgeShape(t, doc, set, repository); o.Code != want {
				t.Errorf("got %s, want %s: %q", o.Code, want, o.Details)
			}
			root["identities"] = []string{"x509.subject: C=DE, ST=BE, O=lab, CN=else"}
			refused(t, judgeShape(t, doc, set, repository), code.WrongIdentity, "somebody else")
		})
	}
}

func chainOf(t testing.TB, raw []byte) (chain []*x509.Certificate) {
	t.Helper()
	var form struct{ Header struct{ X5c [][]byte } }
	if err := json.Unmarshal(raw, &form); err != nil {
		t.Fatal(err)
	}
	for _, der := range form.Header.X5c {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

// What a Notary Project verdict costs beside a keyed one (BenchmarkJudgeFromTheStore).
func BenchmarkJudgeNotation(b *testing.B) {
	for name, change := range map[string]func(*notarial){
		"p256":    func(*notarial) {},
		"rsa2048": func(n *notarial) { n.person.Kind = "rsa2048" },
		"with lists": func(n *notarial) {
			n.root["crls"] = []string{n.authority.CRL(b, time.Now().Add(time.Hour)), n.authority.RootCRL(b, time.Now().Add(time.Hour))}
		},
		"out of 64 unsigned": func(n *notarial) {},
	} {
		b.Run(name, func(b *testing.B) {
			n := newNotarial(b)
			change(n)
			n.put(b, n.envelope(b))
			if name == "out of 64 unsigned" {
				n.person.Change = testsign.SubjectOf("dev")
				for range 63 {
					n.put(b, n.envelope(b))
				}
			}
			n.trust()
			j, p := judge.New(evidence.Collector{Store: n.store}), n.doc.Parse(b)
			for b.Loop() {
				if o := j.Judge(b.Context(), p, n.request); !o.Allow {
					b.Fatal(o.Code, o.Details)
				}
			}
		})
	}
}

// Whatever a registry serves as an envelope, judging ends in a typed refusal.
func FuzzEnvelope(f *testing.F) {
	n := newNotarial(f)
	n.root["roots"] = []string{testsign.CertificatePEM(n.other.Root)} // which has issued nothing
	n.trust()
	for _, mediaType := range []string{testsign.JWS, testsign.COSE} {
		n.sign.MediaType = mediaType
		f.Add(mediaType == testsign.COSE, n.envelope(f).Raw)
	}
	f.Add(false, readFile(f, "notation-jws-rsa2048/envelope.jws.json"))
	p := n.doc.Parse(f)
	f.Fuzz(func(t *testing.T, cose bool, raw []byte) {
		e := evidence.Envelope{MediaType: testsign.JWS, Raw: raw}
		if cose {
			e.MediaType = testsign.COSE
		}
		registry := &fakeRegistry{sets: map[string]evidence.Set{n.digest(): {Manifest: n.manifest, Envelopes: []evidence.Envelope{e}}}}
		o := judge.New(evidence.Collector{Registry: registry}).Judge(t.Context(), p, judge.Request{Repository: repository, Manifest: n.digest()})
		if o.Allow || o.Code == "" || o.Code.Allows() || o.Refusal == nil {
			t.Errorf("got %+v", o)
		}
	})
}

// A Notation signature is of an image: it attests nothing, and a rule may leave it out.
func TestANotationSignatureIsNoAttestation(t *testing.T) {
	for _, c := range []struct {
		name string
		rule map[string]any
		want code.Code
	}{
		{"a signature", map[string]any{"anyOf": []string{"notary"}}, code.OK},
		{"a signature in a format that is read", map[string]any{"anyOf": []string{"notary"}, "formats": []string{"notation"}}, code.OK},
		{"a signature in a format that is not read", map[string]any{"anyOf": []string{"notary"}, "formats": []string{"bundle"}}, code.Unsigned},
		{"beside an attestation", map[string]any{"anyOf": []string{"notary"},
			"attestations": []any{map[string]any{"type": slsa, "by": []string{"team-key"}}}}, code.NoAttestation},
		{"for which an attestation may stand", map[string]any{"allOf": []string{"notary"}, "signature": slsa}, code.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNotarial(t)
			n.trust()
			n.doc.Scopes = map[string]any{repository: c.rule}
			if err := n.store.Put(evidence.Set{Repository: repository, Digest: n.digest(), Manifest: n.manifest, Envelopes: []evidence.Envelope{n.envelope(t)}}, false); err != nil {
				t.Fatal(err)
			}
			if o := n.judge(t); o.Code != c.want {
				t.Errorf("%s, expected %s: %v", o.Code, c.want, o.Details)
			}
		})
	}
}
