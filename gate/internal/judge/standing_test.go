package judge_test

import (
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

const listURL = "http://127.0.0.1:1/list.crl" // where nobody answers

// named has the signer's certificate say where its revocation is to be asked for.
func (n *notarial) named(points, responders []string) {
	n.subject(func(c *x509.Certificate) { c.CRLDistributionPoints, c.OCSPServer = points, responders })
}

func TestNotationRevocation(t *testing.T) {
	hour := func() time.Time { return time.Now().Add(time.Hour) }
	lists := func(n *notarial, texts ...string) { n.root["crls"] = texts }
	tests := []struct {
		name   string
		change func(*testing.T, *notarial)
		after  func(*testing.T, *notarial) // it was signed
		want   code.Code
		saying string
	}{
		{"names nothing, and there is no list", nil, nil, code.OK, ""},
		{"names a list that the policy has", func(t *testing.T, n *notarial) {
			n.named([]string{listURL}, nil)
			lists(n, n.authority.CRL(t, hour()))
		}, nil, code.OK, ""},
		{"names a list that the policy has not", func(_ *testing.T, n *notarial) { n.named([]string{listURL}, nil) }, nil, code.UntrustedChain, "no list of revocations"},
		{"names a responder", func(_ *testing.T, n *notarial) { n.named(nil, []string{listURL}) }, nil, code.UntrustedChain, "no list of revocations"},
		{"names a responder, and the policy has a list", func(t *testing.T, n *notarial) {
			n.named(nil, []string{listURL})
			lists(n, n.authority.CRL(t, hour()))
		}, nil, code.OK, ""},
		{"names a list, and the policy has that of another authority", func(t *testing.T, n *notarial) {
			n.named([]string{listURL}, nil)
			lists(n, n.authority.RootCRL(t, hour()))
		}, nil, code.UntrustedChain, "no list of revocations"},
		{"the list is in its issuer's name, and somebody else's", func(t *testing.T, n *notarial) {
			lists(n, n.other.CRL(t, hour()))
		}, nil, code.UntrustedChain, "not signed by it"},
		{"the list is out of date", func(t *testing.T, n *notarial) { lists(n, n.authority.CRL(t, time.Now().Add(-time.Hour))) }, nil, code.Expired, "out of date"},
		{"the list is not yet good", func(t *testing.T, n *notarial) { lists(n, n.authority.CRL(t, time.Now().Add(49*time.Hour))) }, nil, code.Expired, "out of date"},
		{"on the list", nil, func(t *testing.T, n *notarial) { lists(n, n.authority.CRL(t, hour(), n.sign.By.Certificate)) }, code.Revoked, "by its issuer"},
		{"on an old list, beside a new one that has forgotten it", nil, func(t *testing.T, n *notarial) {
			lists(n, n.authority.CRL(t, hour()), n.authority.CRL(t, time.Now().Add(-time.Hour), n.sign.By.Certificate))
		}, code.Revoked, "by its issuer"},
		{"somebody else on the list", nil, func(t *testing.T, n *notarial) { lists(n, n.authority.CRL(t, hour(), n.authority.Root)) }, code.OK, ""},
		{"its issuer on the root's list", func(t *testing.T, n *notarial) { lists(n, n.authority.RootCRL(t, hour(), n.authority.Intermediate)) }, nil, code.Revoked, "by its issuer"},
		{"its key revoked by the policy", nil, func(_ *testing.T, n *notarial) { n.doc.Keys = []string{n.sign.By.Fingerprint} }, code.Revoked, "by the policy"},
		{"its certificate revoked by the policy", nil, func(_ *testing.T, n *notarial) {
			n.doc.Certificates = []any{testsign.Digest(n.sign.By.Certificate.Raw)}
		}, code.Revoked, "by the policy"},
		{"its number revoked by the policy", nil, func(_ *testing.T, n *notarial) {
			c := n.sign.By.Certificate
			n.doc.Certificates = []any{map[string]any{"issuer": c.Issuer.String(), "serial": c.SerialNumber.Text(16)}}
		}, code.Revoked, "by the policy"},
		{"the root revoked by the policy", nil, func(_ *testing.T, n *notarial) {
			n.doc.Certificates = []any{testsign.Digest(n.authority.Root.Raw)}
		}, code.Revoked, "by the policy"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNotarial(t)
			if test.change != nil {
				test.change(t, n)
			}
			n.put(t, n.envelope(t))
			if test.after != nil {
				test.after(t, n)
			}
			n.trust()
			if test.want == code.OK {
				allowed(t, n.judge(t), code.OK)
				return
			}
			refused(t, n.judge(t), test.want, test.saying)
		})
	}
}

// CVE-2024-56138: nobody asked whether the certificate of a timestamp authority was revoked.
func TestARevokedTimestampAuthorityProvesNoTime(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	tests := []struct {
		name   string
		leaf   func(*x509.Certificate)
		after  func(*testing.T, *notarial)
		want   code.Code
		saying string
	}{
		{"in good standing", nil, nil, code.OK, ""},
		{"in good standing, by its list", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{listURL} },
			func(t *testing.T, n *notarial) { n.root["crls"] = []string{n.sign.Stamp.CRL(t)} }, code.OK, ""},
		{"on its authority's list", nil, func(t *testing.T, n *notarial) { n.root["crls"] = []string{n.sign.Stamp.CRL(t, n.sign.Stamp.Leaf)} },
			code.Revoked, "by its issuer"},
		{"revoked by the policy", nil, func(_ *testing.T, n *notarial) { n.doc.Certificates = []any{testsign.Digest(n.sign.Stamp.Leaf.Raw)} },
			code.Revoked, "by the policy"},
		{"names a list that the policy has not", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{listURL} }, nil,
			code.UntrustedChain, "no list of revocations"},
		{"names a responder", func(c *x509.Certificate) { c.OCSPServer = []string{listURL} }, nil, code.UntrustedChain, "no list of revocations"},
		{"somebody else on its list", nil, func(t *testing.T, n *notarial) {
			n.root["crls"] = []string{n.sign.Stamp.CRL(t, n.authority.Root), n.authority.CRL(t, hour)}
		}, code.OK, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNotarial(t)
			n.past()
			n.stamped(t, n.sign.At, test.leaf)
			n.put(t, n.envelope(t))
			if test.after != nil {
				test.after(t, n)
			}
			n.trust()
			if test.want == code.OK {
				allowed(t, n.judge(t), code.OK)
				return
			}
			refused(t, n.judge(t), test.want, test.saying)
		})
	}
}

// CVE-2024-51491: a list of revocations was moved from the folder for temporary files into
// a cache, which crashed where the two are on different file systems. Here nothing is
// fetched and nothing is written.
func TestRevocationNeedsNeitherNetworkNorFiles(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer server.Close()
	n := newNotarial(t)
	n.named([]string{server.URL + "/list.crl"}, []string{server.URL})
	e := n.envelope(t)
	n.registry.sets[n.digest()] = evidence.Set{Manifest: n.manifest, Envelopes: []evidence.Envelope{e}}
	n.root["crls"] = []string{n.authority.CRL(t, time.Now().Add(time.Hour))}
	nowhere := t.TempDir() + "/nowhere"
	for _, variable := range []string{"TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"} {
		t.Setenv(variable, nowhere)
	}
	n.trust()
	allowed(t, n.judge(t), code.OK)
	delete(n.root, "crls")
	refused(t, n.judge(t), code.UntrustedChain, "no list of revocations")
	if _, err := os.Stat(nowhere); err == nil || asked > 0 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

// CVE-2024-23332: a registry hands out an image of long ago with the signature of then.
// Expiry of a signature, revocation of a digest and of a certificate hold against that,
// and no level of verification makes them a mere warning.
func TestRollback(t *testing.T) {
	n := newNotarial(t)
	n.person.From, n.person.To = time.Now().Add(-2*time.Hour), time.Now().Add(time.Hour)
	n.sign.At, n.sign.Expiry = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	n.registry.sets[n.digest()] = evidence.Set{Manifest: n.manifest, Envelopes: []evidence.Envelope{n.envelope(t)}}
	n.trust()
	refused(t, n.judge(t), code.Expired, "expired on")

	n.sign.Expiry = time.Now().Add(time.Hour)
	n.registry.sets[n.digest()] = evidence.Set{Manifest: n.manifest, Envelopes: []evidence.Envelope{n.envelope(t)}}
	allowed(t, n.judge(t), code.OK)
	n.doc.Digests = []string{n.digest()}
	refused(t, n.judge(t), code.Revoked, "is revoked")
	n.doc.Digests, n.doc.Keys = nil, []string{n.sign.By.Fingerprint}
	refused(t, n.judge(t), code.Revoked, "by the policy")
}

// CVE-2023-33959: a registry answers with something else than was asked for, and the
// signature of that counted. The whole way through a registry that lies.
func TestTheWrongArtifact(t *testing.T) {
	n := newNotarial(t)
	for _, test := range []struct {
		name string
		lie  func(pusher testsign.Pusher, other string) http.HandlerFunc
		want code.Code
	}{
		{"honest", nil, code.OK},
		{"another image's signature under this one's name", func(pusher testsign.Pusher, other string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/referrers/") {
					r.URL.Path = "/v2/" + pusher.Path + "/referrers/" + other
				}
				pusher.Handler.ServeHTTP(w, r)
			}
		}, code.Malformed},
		{"another image under this one's digest", func(pusher testsign.Pusher, other string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, n.digest()) {
					r.URL.Path = strings.Replace(r.URL.Path, n.digest(), other, 1)
				}
				pusher.Handler.ServeHTTP(w, r)
			}
		}, code.Tampered},
	} {
		t.Run(test.name, func(t *testing.T) {
			handler := testsign.Handler(true)
			pusher := testsign.Pusher{Handler: handler, Path: "demo/app"}
			other := pusher.Image(t, "other")
			if test.lie != nil {
				n.sign.Manifest, handler = testsign.Manifest("other"), test.lie(pusher, other)
				pusher.Image(t, "image")
				pusher.Envelopes(t, other, false, n.envelope(t))
			} else {
				pusher.Image(t, "image")
				pusher.Envelopes(t, n.digest(), false, n.envelope(t))
			}
			repository := testsign.Serve(t, handler) + "/demo/app"
			n.trust()
			n.doc.Scopes = map[string]any{repository: map[string]any{"anyOf": []string{"notary"}}}
			o := judge.New(evidence.Collector{Registry: registry.New(registry.Config{})}).Judge(t.Context(), n.doc.Parse(t),
				judge.Request{Repository: repository, Manifest: n.digest()})
			if test.want == code.OK {
				allowed(t, o, code.OK)
				return
			}
			refused(t, o, test.want, "")
		})
	}
}

// CVE-2023-33957 and -33958: a registry with more signatures than anybody can read. The
// bound is said, and does not hide what is within it.
func TestMoreEnvelopesThanAreRead(t *testing.T) {
	handler := testsign.Handler(true)
	repository := testsign.Serve(t, handler) + "/demo/app"
	pusher := testsign.Pusher{Handler: handler, Path: "demo/app"}
	n := newNotarial(t)
	pusher.Image(t, "image")
	for i := range 200 {
		pusher.Envelopes(t, n.digest(), false, evidence.Envelope{MediaType: testsign.JWS, Raw: []byte(strconv.Itoa(i))})
	}
	pusher.Envelopes(t, n.digest(), false, evidence.Envelope{MediaType: testsign.JWS, Raw: []byte(hex.EncodeToString(make([]byte, evidence.MaxEnvelope)))})
	n.trust()
	n.doc.Scopes = map[string]any{repository: map[string]any{"anyOf": []string{"notary"}}}
	o := judge.New(evidence.Collector{Registry: registry.New(registry.Config{})}).Judge(t.Context(), n.doc.Parse(t),
		judge.Request{Repository: repository, Manifest: n.digest()})
	refused(t, o, code.Malformed, "has 201 referrers")
}
