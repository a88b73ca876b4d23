package policy

import (
	"bytes"
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512
	"encoding/base64"
	"slices"

	sigstore "github.com/sigstore/sigstore/pkg/signature"
)

// Signatures is what the name of a policy's signatures ends in: one a line, base64,
// over the policy's very bytes, as "cosign sign-blob --output-signature" and
// "openssl dgst -sign" write them.
const Signatures = ".sig"

// MaxSignatures bounds a file of signatures, in bytes, and maxLines what counts of it.
const (
	MaxSignatures = 64 << 10
	maxLines      = 16
)

const signRemedy = "sign the rendered policy (policy.apply --key FILE, or cosign sign-blob) and install it with its signature"

// ParseKeys reads public keys in PEM, as a root of trust has them.
func ParseKeys(where string, texts []string) ([]Key, error) { return readKeys(where, texts) }

// signedBy gives those of the signatures that one of keys has made of data.
func signedBy(keys []Key, data, signatures []byte) [][]byte {
	var good [][]byte
	for _, line := range lines(signatures) {
		raw, err := base64.StdEncoding.DecodeString(string(line))
		if err == nil && slices.ContainsFunc(keys, func(key Key) bool { return signed(key, data, raw) }) {
			good = append(good, line)
		}
	}
	return good
}

// signed tries the hashes that tools choose; Ed25519 has its own.
func signed(key Key, data, signature []byte) bool {
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		verifier, err := sigstore.LoadVerifier(key.Public, hash)
		if err == nil && verifier.VerifySignature(bytes.NewReader(signature), bytes.NewReader(data)) == nil {
			return true
		}
	}
	return false
}

// lines gives the lines that hold something, the first few of them.
func lines(text []byte) [][]byte {
	found := [][]byte{}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && len(found) < maxLines {
			found = append(found, line)
		}
	}
	return found
}

// sameLines says whether all that is wanted is there.
func sameLines(wanted, there [][]byte) bool {
	return !slices.ContainsFunc(wanted, func(line []byte) bool {
		return !slices.ContainsFunc(there, func(other []byte) bool { return bytes.Equal(line, other) })
	})
}
