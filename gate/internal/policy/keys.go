package policy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Key is a public key that a root of trust names.
type Key struct {
	Public      crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
	PEM         []byte           // PKIX, as in the policy
	Fingerprint string           // sha256:<hex> of the DER SubjectPublicKeyInfo
	Since       time.Time        // the day since which it is in use; zero where the policy does not say
}

// RSA keys below the lower bound are too weak to trust; those above the upper
// one cost too much time in the path of a container start.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

func readKeys(where string, texts []string) ([]Key, error) {
	if len(texts) == 0 {
		return nil, invalid(where+".keys: empty", "at least one public key", rerender)
	}
	keys := make([]Key, 0, len(texts))
	for i, text := range texts {
		key, err := readKey(text)
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s.keys[%d]: %v", where, i, err),
				"one PEM block PUBLIC KEY with an ECDSA (P-256, P-384, P-521), RSA (2048 to 8192 bits) or Ed25519 key", rerender)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readSince notes at keys since when they are in use. That decides nothing: who looks
// after the keys is told of old ones.
func readSince(where string, days map[string]string, keys []Key) error {
	for fingerprint, text := range days {
		at := slices.IndexFunc(keys, func(k Key) bool { return k.Fingerprint == fingerprint })
		day, err := time.Parse(time.DateOnly, text)
		if at < 0 || err != nil {
			return invalid(fmt.Sprintf("%s.since: %q: %q", where, fingerprint, text), "the fingerprint of one of the root's keys, and a day: 2026-11-01", rerender)
		}
		keys[at].Since = day
	}
	return nil
}

func readKey(text string) (Key, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || !strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
		return Key{}, fmt.Errorf("no PEM block, or text before it")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return Key{}, fmt.Errorf("more than one PEM block")
	}
	if block.Type != "PUBLIC KEY" {
		return Key{}, fmt.Errorf("PEM block %q", block.Type)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, err
	}
	if err := checkKey(public); err != nil {
		return Key{}, err
	}
	// Encoded anew, so that one key has one fingerprint whatever its file held.
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, err
	}
	return Key{Public: public, PEM: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), Fingerprint: hash(der)}, nil
}

func checkKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("ECDSA curve %s", key.Curve.Params().Name)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("RSA key of %d bits", bits)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("key of type %T", public)
}
