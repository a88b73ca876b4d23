package relay

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Why someone may not read the metrics.
var (
	ErrNobody    = errors.New("the token is nobody's")
	ErrForbidden = errors.New("who has the token may not get /metrics")
)

const (
	holds      = time.Minute // an answer about a token
	maxToken   = 16 << 10
	maxTokens  = 64
	maxReviews = 60 // a minute: who has no good token can't have the API server asked without end
)

// May says whether the owner of a bearer token may read the metrics.
type May func(ctx context.Context, token string) error

// guard remembers for a minute what was said of a token. Tokens are kept as hashes.
type guard struct {
	may May

	mu      sync.Mutex
	known   map[[sha256.Size]byte]answer
	reviews int
	since   time.Time
}

type answer struct {
	err error
	at  time.Time
}

// status gives the HTTP status for a request; 200 where it may.
func (g *guard) status(r *http.Request) int {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" || len(token) > maxToken {
		return http.StatusUnauthorized
	}
	err, ok := g.ask(r.Context(), token)
	switch {
	case !ok:
		return http.StatusTooManyRequests
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrNobody):
		return http.StatusUnauthorized
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	}
	return http.StatusServiceUnavailable // the API server did not say: it is not taken for a yes
}

func (g *guard) ask(ctx context.Context, token string) (err error, asked bool) {
	key, now := sha256.Sum256([]byte(token)), time.Now()
	g.mu.Lock()
	if known, ok := g.known[key]; ok && now.Sub(known.at) < holds {
		g.mu.Unlock()
		return known.err, true
	}
	if now.Sub(g.since) > time.Minute {
		g.reviews, g.since = 0, now
	}
	g.reviews++
	over := g.reviews > maxReviews
	g.mu.Unlock()
	if over {
		return nil, false
	}
	err = g.may(ctx, token)
	if err != nil && !errors.Is(err, ErrNobody) && !errors.Is(err, ErrForbidden) {
		return err, true // asked again at once
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil || len(g.known) >= maxTokens {
		g.known = map[[sha256.Size]byte]answer{}
	}
	g.known[key] = answer{err, now}
	return err, true
}

// SelfSigned gives what TLS needs: a certificate of this process alone. Whoever asks can't
// know it, and needs none of its secrets: a token that is good for reading metrics.
func SelfSigned(name string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}
