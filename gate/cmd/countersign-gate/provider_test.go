package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
)

// gatekeeper asks a provider of the place.
type gatekeeper struct {
	place  *place
	url    string
	health string
	client http.Client
}

// asGatekeeper runs a provider, and gives who asks it. One certificate serves both, and
// is its own CA.
func (p *place) asGatekeeper() *gatekeeper {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{gatekeepersName}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		p.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	cert, keyFile := filepath.Join(p.dir, "tls.crt"), filepath.Join(p.dir, "tls.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: raw}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	health := free.Addr().String()
	_ = free.Close()
	e := external{policy: filepath.Join(p.dir, "policy.json"), state: filepath.Join(p.dir, "provider"), health: health,
		cert: cert, key: keyFile, clientCA: cert, clientName: gatekeepersName, cache: time.Minute}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.run(ctx, listener) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
	settings := &tls.Config{RootCAs: known, ServerName: gatekeepersName, Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}
	return &gatekeeper{p, "https://" + listener.Addr().String() + "/validate", "http://" + health + "/healthz",
		http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}}}
}

// want asks about an image, and holds the answer against a code.
func (g *gatekeeper) want(image string, want code.Code) {
	g.place.t.Helper()
	body := fmt.Appendf(nil, `{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderRequest","request":{"keys":[%q]}}`, image)
	answered, err := g.client.Post(g.url, "application/json", bytes.NewReader(body))
	if err != nil {
		g.place.t.Fatal(err)
	}
	defer answered.Body.Close()
	var got struct {
		Response struct {
			Items []struct {
				Key, Error string
				Value      *struct {
					Allow bool
					Code  code.Code
				}
			}
		}
	}
	if err := json.NewDecoder(answered.Body).Decode(&got); err != nil || len(got.Response.Items) != 1 {
		g.place.t.Fatalf("%v, %+v", err, got)
	}
	one := got.Response.Items[0]
	if want.Allows() && (one.Value == nil || !one.Value.Allow || one.Value.Code != want) || !want.Allows() && (one.Value != nil || !strings.Contains(one.Error, ": "+string(want)+": ")) {
		g.place.t.Errorf("%s: %+v, expected %s", image, one, want)
	}
}

func TestProviderSaysWhatTheGateSays(t *testing.T) {
	p := newPlace(t)
	g := p.asGatekeeper()
	pusher := testsign.Pusher{Handler: p.registry.Handler, Path: "demo/app"}
	unsigned := pusher.Image(t, "nobody signed this")
	repository := strings.TrimSuffix(p.name, ":v1")
	g.want(p.name, code.OK)
	g.want(repository+"@"+p.image.Manifest, code.OK)
	g.want(repository+"@"+unsigned, code.Unsigned)
	g.want(repository+":gone", code.RegistryError)
	g.want("elsewhere.example/app:v1", code.NoScope)
	g.want("Registry.example/App", code.BadReference)
	g.want(p.image.Manifest, code.BadReference)
	g.want("", code.BadReference)
}

// A policy that comes into force counts for the next question, whatever was remembered.
func TestProviderFollowsThePolicy(t *testing.T) {
	p := newPlace(t)
	g := p.asGatekeeper()
	g.want(p.name, code.OK)
	before := g.inForce()
	p.policy(testsign.NewKey(t))
	eventually(t, func() bool { return g.inForce() != before })
	g.want(p.name, code.BadSignature)
}

// A provider without a policy says that it is not well, and answers that nothing may run.
func TestProviderWithoutAPolicy(t *testing.T) {
	p := newPlace(t)
	if err := os.Remove(filepath.Join(p.dir, "policy.json")); err != nil {
		t.Fatal(err)
	}
	g := p.asGatekeeper()
	eventually(t, func() bool { return strings.HasPrefix(g.inForce(), "503") })
	g.want(p.name, code.PolicyInvalid)
	p.policy(p.key)
	eventually(t, func() bool { return strings.HasPrefix(g.inForce(), "200") })
	g.want(p.name, code.OK)
}

// inForce gives what the provider says of its policy.
func (g *gatekeeper) inForce() string {
	answered, err := http.Get(g.health)
	if err != nil {
		return ""
	}
	defer answered.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(answered.Body); err != nil {
		return ""
	}
	return answered.Status + b.String()
}

func TestProviderUsage(t *testing.T) {
	p := newPlace(t)
	given := []string{"provider", "--policy", p.policy(p.key), "--tls-cert", p.config, "--tls-key", p.config, "--client-ca", p.config, "--listen", "127.0.0.1:0"}
	for _, test := range []struct {
		args []string
		exit int
		says string
	}{
		{given, exitInfrastructure, "own certificate: "},
		{given[:3], exitUsage, "--tls-cert is missing"},
		{append(given[:len(given):len(given)], "--client-name", ""), exitUsage, "--client-name is missing"},
		{append(given[:len(given):len(given)], "--cache", "2m"), exitUsage, "--cache 2m0s, expected 0s to 1m0s"},
		{append(given[:len(given):len(given)], "--policy-key", p.config), exitInfrastructure, "--policy-key.keys[0]"},
	} {
		exit, _, stderr := p.do(test.args...)
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		if exit != test.exit || !strings.Contains(lines[len(lines)-1], test.says) {
			t.Errorf("%q: exit %d, %q", test.args, exit, stderr)
		}
	}
}
