package externaldata

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	gatekeeper = "gatekeeper-webhook-service.gatekeeper-system.svc"
	provider   = "countersign-provider.gatekeeper-system.svc"
)

// authority is a CA of a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	return issue(t, authority{}, "a CA", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
}

// issue gives a certificate by an authority, or one that signs itself.
func issue(t *testing.T, by authority, name string, change func(*x509.Certificate)) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(template)
	}
	if by.key == nil {
		by = authority{template, key}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key}
}

func (a authority) pair() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{a.certificate.Raw}, PrivateKey: a.key}
}

// write puts certificate and key into files.
func (a authority) write(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: a.certificate.Raw}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// served is a provider that serves, with the CAs of both sides.
type served struct {
	url     string
	config  Config
	ours    authority // certifies the provider
	clients authority // certifies Gatekeeper
	engine  *judging
}

func serve(t *testing.T, change func(*Config)) *served {
	t.Helper()
	dir := t.TempDir()
	s := &served{ours: newAuthority(t), clients: newAuthority(t), engine: newJudging()}
	s.config = Config{Engine: s.engine, Budget: 2 * time.Second, Keep: time.Minute, ClientName: gatekeeper}
	s.config.Cert, s.config.Key = issue(t, s.ours, provider, nil).write(t, dir, "provider")
	s.config.ClientCA, _ = s.clients.write(t, dir, "clients")
	if change != nil {
		change(&s.config)
	}
	server, err := New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "https://" + listener.Addr().String() + Path
	done := make(chan error, 1)
	ctx := t.Context() // ends before the clean-up
	go func() { done <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// client asks as somebody with that certificate; nil for none.
func (s *served) client(certificate *tls.Certificate, highest uint16) *http.Client {
	known := x509.NewCertPool()
	known.AddCert(s.ours.certificate)
	settings := &tls.Config{RootCAs: known, ServerName: provider, MaxVersion: highest}
	if certificate != nil {
		// Certificates would be left out where the server does not name their CA.
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}}
}

// asGatekeeper posts a body.
func (s *served) asGatekeeper(t *testing.T, method, url, body string) (int, response) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answered, err := s.client(issue(t, s.clients, gatekeeper, nil).pair(), 0).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answered.Body.Close()
	content, err := io.ReadAll(answered.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got response
	if err := json.Unmarshal(content, &got); err != nil {
		t.Fatalf("%s: %v", content, err)
	}
	if bytes.Contains(content, []byte("idempotent")) {
		t.Errorf("a mutation could be made of %s", content)
	}
	return answered.StatusCode, got
}

func asking(images ...string) string {
	body, _ := json.Marshal(map[string]any{"apiVersion": apiVersion, "kind": kindRequest, "request": map[string]any{"keys": images}})
	return string(body)
}

func TestWhoMayAsk(t *testing.T) {
	s := serve(t, nil)
	for _, test := range []struct {
		name    string
		client  *tls.Certificate
		highest uint16
		ok      bool
	}{
		{"Gatekeeper", issue(t, s.clients, gatekeeper, nil).pair(), 0, true},
		{"nobody", nil, 0, false},
		{"Gatekeeper of another CA", issue(t, newAuthority(t), gatekeeper, nil).pair(), 0, false},
		{"Gatekeeper by its own word", issue(t, authority{}, gatekeeper, nil).pair(), 0, false},
		{"somebody else of the CA", issue(t, s.clients, "x-"+gatekeeper, nil).pair(), 0, false},
		{"a wildcard", issue(t, s.clients, "*.gatekeeper-system.svc", nil).pair(), 0, false},
		{"a name in the subject alone", issue(t, s.clients, gatekeeper, func(c *x509.Certificate) { c.DNSNames = nil }).pair(), 0, false},
		{"a certificate that ended", issue(t, s.clients, gatekeeper, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).pair(), 0, false},
		{"a certificate for servers alone", issue(t, s.clients, gatekeeper, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }).pair(), 0, false},
		{"TLS 1.2", issue(t, s.clients, gatekeeper, nil).pair(), tls.VersionTLS12, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := s.engine.count()
			answered, err := s.client(test.client, test.highest).Post(s.url, "application/json", strings.NewReader(asking(unsignedImage)))
			if err == nil {
				_ = answered.Body.Close()
			}
			if (err == nil) != test.ok || (s.engine.count() > before) != test.ok {
				t.Errorf("%v, judged %d", err, s.engine.count()-before)
			}
		})
	}
}

// Gatekeeper exchanges its certificates, and the old ones count no more.
func TestACertificateThatWasExchanged(t *testing.T) {
	s := serve(t, nil)
	old := s.clients
	if status, _ := s.asGatekeeper(t, http.MethodPost, s.url, asking(signedImage)); status != http.StatusOK {
		t.Fatal(status)
	}
	s.clients = newAuthority(t)
	s.clients.write(t, filepath.Dir(s.config.ClientCA), "clients")
	if status, _ := s.asGatekeeper(t, http.MethodPost, s.url, asking(signedImage)); status != http.StatusOK {
		t.Fatal(status)
	}
	if answered, err := s.client(issue(t, old, gatekeeper, nil).pair(), 0).Post(s.url, "", strings.NewReader(asking(signedImage))); err == nil {
		t.Errorf("%d", answered.StatusCode)
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	s := serve(t, nil)
	many := make([]string, maxKeys+1)
	for i := range many {
		many[i] = fmt.Sprint(signedImage, i)
	}
	right := asking(signedImage)
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"as Gatekeeper asks", "POST", Path, right, 200, ""},
		{"as many images as may be", "POST", Path, asking(many[:maxKeys]...), 200, ""},
		{"one image more", "POST", Path, asking(many...), 400, "MALFORMED: more than 128 images"},
		{"another path", "POST", "/", right, 404, "MALFORMED: another path"},
		{"another method", "PUT", Path, right, 405, "MALFORMED: another method"},
		{"nothing", "POST", Path, "", 400, "MALFORMED: the request is not to be read"},
		{"no JSON", "POST", Path, "keys: []", 400, "MALFORMED: the request is not to be read"},
		{"two requests", "POST", Path, right + right, 400, "MALFORMED: the request goes on"},
		{"another version", "POST", Path, strings.Replace(right, "v1beta1", "v1alpha1", 1), 400, "MALFORMED: a \"ProviderRequest\" of \"externaldata.gatekeeper.sh/v1alpha1\""},
		{"another kind", "POST", Path, strings.Replace(right, kindRequest, kindResponse, 1), 400, "MALFORMED: a \"ProviderResponse\""},
		{"keys that are no texts", "POST", Path, strings.Replace(right, `["`, `[7,"`, 1), 400, "MALFORMED: its keys"},
		{"keys that are no list", "POST", Path, strings.Replace(right, `["`+signedImage+`"]`, `"`+signedImage+`"`, 1), 400, "MALFORMED: its keys"},
		{"as large as may be", "POST", Path, right + strings.Repeat(" ", maxBody-len(right)), 200, ""},
		{"larger", "POST", Path, right + strings.Repeat(" ", maxBody-len(right)+1), 400, "MALFORMED: the request is not to be read: http: request body too large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, got := s.asGatekeeper(t, test.method, strings.TrimSuffix(s.url, Path)+test.path, test.body)
			if status != test.status || !strings.Contains(got.Response.SystemError, test.says) || (test.says == "") != (got.Response.SystemError == "") {
				t.Errorf("%d, %q", status, got.Response.SystemError)
			}
			if got.APIVersion != apiVersion || got.Kind != kindResponse || (len(got.Response.Items) > 0) != (test.says == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestMoreRequestsThanCanBeAnswered(t *testing.T) {
	s := serve(t, nil)
	server, err := New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	for range maxRequests - 1 {
		server.busy <- struct{}{}
	}
	if got, err := server.answer(t.Context(), []string{signedImage}); err != nil || len(got.Response.Items) != 1 {
		t.Errorf("with room for one: %v, %v", got, err)
	}
	server.busy <- struct{}{}
	if got, err := server.answer(t.Context(), []string{signedImage}); err == nil || len(got.Response.Items) != 0 || !strings.Contains(got.Response.SystemError, "TIMEOUT") {
		t.Errorf("without room: %v, %v", got, err)
	}
}

func TestFilesThatMakeNoServer(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no certificate":        func(c *Config) { c.Cert = c.Cert + ".gone" },
		"another's key":         func(c *Config) { _, c.Key = newAuthority(t).write(t, t.TempDir(), "other") },
		"no CA":                 func(c *Config) { c.ClientCA = c.ClientCA + ".gone" },
		"a key in place of one": func(c *Config) { c.ClientCA = c.Key },
		"nobody may ask":        func(c *Config) { c.ClientName = "" },
	} {
		good := serve(t, nil).config
		change(&good)
		if _, err := New(good); err == nil {
			t.Error(name)
		}
	}
}
