// Package policy reads the policy that countersign renders for the gate: one
// self-contained JSON document, keys inline. It is read strictly: a document
// that says anything this version does not know is not a policy at all.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
)

// Version is the only version of the document that this gate reads.
const Version = "countersign.policy/v1"

// MaxSize bounds the document, in bytes.
const MaxSize = 4 << 20

// Policy is a checked policy. It is never changed after Parse, so any number of
// goroutines may share it.
type Policy struct {
	Hash      string        // sha256:<hex> of the file's bytes
	TrustHash string        // sha256:<hex> of keys and revocations alone
	Serial    int64         // grows with each policy of a node; 0 for none
	Document  []byte        // as it was parsed
	Lists     []Revocations // that it includes

	roots               map[string]Root
	scopes              map[string]Rule
	pinned              map[string]string // digest -> the pin as written
	pins                []string          // all of them
	revokedKeys         map[string]bool
	revokedDigests      map[string]bool
	revokedCertificates map[string]bool
}

// Kind says what a rule asks for.
type Kind string

// The kinds of rules.
const (
	AnyOf  Kind = "anyOf"
	AllOf  Kind = "allOf"
	Accept Kind = "accept"
	Reject Kind = "reject"
)

// Rule is what a scope asks for: signatures that satisfy any or all of Roots,
// or nothing (accept), or the impossible (reject).
type Rule struct {
	Kind  Kind
	Roots []string // names, in the order of the policy; empty for accept and reject

	Formats      []string      // of signatures that count; empty for all
	Signature    string        // the predicate type of attestations that count as signatures; "" for none
	Attestations []Attestation // all of which the image must have beside
}

// String gives the rule as one word, fit for a log: anyOf(a,b), reject,
// anyOf(a)+attestations(https://slsa.dev/provenance/v1). Rules that differ may have the
// same: the hash of the policy tells them apart.
func (r Rule) String() string {
	if len(r.Roots) == 0 {
		return string(r.Kind)
	}
	text := string(r.Kind) + "(" + strings.Join(r.Roots, ",") + ")"
	if len(r.Formats) > 0 {
		text += "+formats(" + strings.Join(r.Formats, ",") + ")"
	}
	if r.Signature != "" {
		text += "+signature(" + r.Signature + ")"
	}
	if len(r.Attestations) > 0 {
		text += "+attestations(" + strings.Join(r.attested(), ",") + ")"
	}
	return text
}

// Root is a root of trust. Exactly one of its kinds is set.
type Root struct {
	Name      string
	PublicKey *PublicKey
	Keyless   *Keyless
	PKI       *PKI
	Notation  *Notation

	hash string // sha256:<hex> of the document; unused where there are keys
}

// PublicKey is a root of trust in which any of the keys is good.
type PublicKey struct {
	Keys []Key
}

// Load reads and checks the policy file at path. It returns a *code.Refusal
// with POLICY_INVALID.
func Load(path string) (*Policy, error) {
	data, err := bounded.File(path, MaxSize)
	if err != nil {
		return nil, invalid(err.Error(), "a readable policy file", "render the policy to this node again")
	}
	return ParseFile(path, data)
}

// ParseFile is Parse, with the file's path in what is found.
func ParseFile(path string, data []byte) (*Policy, error) {
	p, err := Parse(data)
	if refusal, ok := err.(*code.Refusal); ok {
		refusal.Found = path + ": " + refusal.Found
	}
	return p, err
}

// Match finds the rule for a normalised repository: of the scopes that are the
// repository, a parent path of it, or its registry, the longest. Boundaries are
// those of path components, so a/b is not a scope of a/bc.
func (p *Policy) Match(repository string) (scope string, rule Rule, ok bool) {
	for candidate := repository; candidate != ""; {
		if rule, ok := p.scopes[candidate]; ok {
			return candidate, rule, true
		}
		cut := strings.LastIndexByte(candidate, '/')
		if cut < 0 {
			break
		}
		candidate = candidate[:cut]
	}
	return "", Rule{}, false
}

// Scopes lists the scopes of the policy, sorted.
func (p *Policy) Scopes() []string {
	return slices.Sorted(maps.Keys(p.scopes))
}

// Roots lists the roots of trust, in no order.
func (p *Policy) Roots() []Root {
	return slices.Collect(maps.Values(p.roots))
}

// Pinned gives the first pin that names one of digests. Content is content: the
// repository of a pin is for people.
func (p *Policy) Pinned(digests ...string) (pin string, ok bool) {
	for _, digest := range digests {
		if pin, ok := p.pinned[digest]; ok {
			return pin, true
		}
	}
	return "", false
}

// Pins lists the pins as they are written, sorted.
func (p *Policy) Pins() []string {
	return slices.Compact(slices.Sorted(slices.Values(p.pins)))
}

// PinsIn says whether some pin names the repository.
func (p *Policy) PinsIn(repository string) bool {
	for _, pin := range p.pinned {
		if strings.HasPrefix(pin, repository+"@") {
			return true
		}
	}
	return false
}

// RevokedDigest gives the first of digests that is revoked.
func (p *Policy) RevokedDigest(digests ...string) (digest string, ok bool) {
	for _, digest := range digests {
		if p.revokedDigests[digest] {
			return digest, true
		}
	}
	return "", false
}

// RevokedKey says whether the key with that fingerprint is revoked.
func (p *Policy) RevokedKey(fingerprint string) bool {
	return p.revokedKeys[fingerprint]
}

// trustHash covers all that decides whether a signature is trusted.
func (p *Policy) trustHash() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(p.roots)) {
		fmt.Fprintf(h, "root %q\n", name)
		root := p.roots[name]
		if root.PublicKey == nil {
			fmt.Fprintf(h, "as %s\n", root.hash)
			continue
		}
		for _, key := range root.PublicKey.Keys {
			fmt.Fprintf(h, "key %s\n", key.Fingerprint)
		}
	}
	for _, set := range []map[string]bool{p.revokedKeys, p.revokedCertificates, p.revokedDigests} {
		for _, entry := range slices.Sorted(maps.Keys(set)) {
			fmt.Fprintf(h, "revoked %s\n", entry)
		}
		fmt.Fprintln(h)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func invalid(found, expected, do string) *code.Refusal {
	return code.Refuse(code.PolicyInvalid, found, expected, do)
}
