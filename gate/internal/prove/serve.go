package prove

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// lives is how long the certificate is good.
const lives = 10 * time.Minute

// turn is how long another proof is waited for.
const turn = 20 * time.Second

// served is the canary's registry while it is up.
type served struct {
	CA     []byte // of its certificate, in PEM; CRI-O alone wants it, others trust loopback
	server *http.Server
}

// serve listens on the loopback network by TLS, under a CA that lives as long as the
// process, and serves one image for reading. That one process at a time can listen is
// also what keeps two proofs apart: the second one waits.
func serve(ctx context.Context, of *image, listen func() (net.Listener, error)) (*served, error) {
	listener, err := listen()
	for until := time.Now().Add(turn); errors.Is(err, unix.EADDRINUSE) && time.Now().Before(until); listener, err = listen() {
		if stopped := pause(ctx, 50*time.Millisecond); stopped != nil {
			return nil, stopped
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the canary cannot be served at %s: %w; run it as root, and free that port", Registry, err)
	}
	certificate, ca, err := identity(Registry)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s := &served{CA: ca, server: &http.Server{
		Handler:           handler(of),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // a client that tries plain HTTP is nothing to tell
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12},
	}}
	go func() { _ = s.server.ServeTLS(listener, "", "") }() // ends with Close
	return s, nil
}

// loopbackOnly listens where the canary's name leads to.
func loopbackOnly() (net.Listener, error) { return net.Listen("tcp", Registry) }

// Close ends it, with the connections that clients keep.
func (s *served) Close() error { return s.server.Close() }

// handler is a registry as the OCI distribution spec has it ("Pull", and "Listing
// Referrers" with none), for one image.
func handler(of *image) http.Handler {
	found := map[string]blob{}
	for _, repository := range []string{Repository, Refused} {
		path := "/v2/" + strings.TrimPrefix(repository, Registry+"/")
		manifest := of.manifest
		found[path+"/manifests/"+tag] = manifest
		found[path+"/manifests/"+manifest.descriptor.Digest.String()] = manifest
		found[path+"/referrers/"+manifest.descriptor.Digest.String()] = newBlob(ocispec.MediaTypeImageIndex,
			[]byte(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`))
		for _, part := range of.parts {
			found[path+"/blobs/"+part.descriptor.Digest.String()] = part
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one, ok := found[r.URL.Path]
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.URL.Path == "/v2/":
			w.WriteHeader(http.StatusOK)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Header().Set("Content-Type", one.descriptor.MediaType)
			w.Header().Set("Docker-Content-Digest", one.descriptor.Digest.String())
			w.Header().Set("Content-Length", fmt.Sprint(len(one.content)))
			_, _ = w.Write(one.content) // who goes away has what it wanted
		}
	})
}

// identity gives a certificate for an address, and the CA that signed it, whose key is
// forgotten at once.
func identity(address string) (*tls.Certificate, []byte, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "countersign canary CA"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(lives),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "countersign canary"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.ParseIP(host)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
