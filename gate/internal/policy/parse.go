package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"
	"strings"

	"countersign/gate/internal/reference"
)

// document is the rendered policy as it stands in the file.
type document struct {
	Version string                    `json:"version"`
	Serial  int64                     `json:"serial"`
	Roots   map[string]jsontext.Value `json:"roots"`
	Scopes  map[string]ruleJSON       `json:"scopes"`
	Pinned  []string                  `json:"pinned"`
	Revoked revokedJSON               `json:"revoked"`
}

type rootJSON struct {
	PublicKey *publicKeyJSON `json:"publicKey"`
	Keyless   *keylessJSON   `json:"keyless"`
	PKI       *pkiJSON       `json:"pki"`
	Notation  *notationJSON  `json:"notation"`
}

type publicKeyJSON struct {
	Keys  []string          `json:"keys"`
	Since map[string]string `json:"since"` // fingerprint → day
}

type ruleJSON struct {
	AnyOf  []string `json:"anyOf"`
	AllOf  []string `json:"allOf"`
	Accept *bool    `json:"accept"`
	Reject *bool    `json:"reject"`

	Formats      []string          `json:"formats"`
	Signature    *string           `json:"signature"`
	Attestations []attestationJSON `json:"attestations"`
}

type revokedJSON struct {
	Keys         []string         `json:"keys"`
	Certificates []jsontext.Value `json:"certificates"`
	Digests      []string         `json:"digests"`
	Lists        []listJSON       `json:"lists"`
}

const rerender = "correct policy.yaml and render it again, with the same version of countersign as this gate"

// Parse checks a rendered policy. Unknown and repeated members, unknown versions
// and kinds, unusable keys, and scopes that are not normalised make it invalid.
// It returns a *code.Refusal with POLICY_INVALID.
func Parse(data []byte) (*Policy, error) {
	if len(data) > MaxSize {
		return nil, invalid(fmt.Sprintf("more than %d bytes", MaxSize), "a policy within the bound", rerender)
	}
	var doc document
	// json/v2 matches names with their case and refuses a repeated one: no other
	// reader of the same bytes can have seen another policy.
	if err := json.Unmarshal(data, &doc, json.RejectUnknownMembers(true)); err != nil {
		return nil, invalid(clean(err), "a document of version "+Version, rerender)
	}
	if doc.Version != Version {
		return nil, invalid(fmt.Sprintf("version %q", doc.Version), fmt.Sprintf("%q", Version), rerender)
	}
	p := &Policy{Hash: hash(data), Document: data}
	for _, step := range []func(*Policy, *document) error{readSerial, readRoots, readScopes, readPins, readRevoked} {
		if err := step(p, &doc); err != nil {
			return nil, err
		}
	}
	p.TrustHash = p.trustHash()
	return p, nil
}

func readRoots(p *Policy, doc *document) error {
	p.roots = make(map[string]Root, len(doc.Roots))
	for _, name := range slices.Sorted(maps.Keys(doc.Roots)) {
		if !validRootName(name) {
			return invalid(fmt.Sprintf("roots: name %q", name), "letters, digits, '.', '_' and '-'", rerender)
		}
		root, err := readRoot(name, doc.Roots[name])
		if err != nil {
			return err
		}
		p.roots[name] = root
	}
	return nil
}

// readRoot reads one root of trust; another kind is another case here.
func readRoot(name string, document jsontext.Value) (Root, error) {
	where := "roots." + name
	var root rootJSON
	if err := json.Unmarshal(document, &root, json.RejectUnknownMembers(true)); err != nil {
		return Root{}, invalid(where+": "+clean(err), "a root of trust", rerender)
	}
	kinds := 0
	for _, given := range []bool{root.PublicKey != nil, root.Keyless != nil, root.PKI != nil, root.Notation != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return Root{}, invalid(fmt.Sprintf("%s: %d kinds of root", where, kinds), "one of publicKey, keyless, pki, notation", rerender)
	}
	read := Root{Name: name, hash: hash(document)}
	var err error
	switch {
	case root.PublicKey != nil:
		read.PublicKey = &PublicKey{}
		if read.PublicKey.Keys, err = readKeys(where+".publicKey", root.PublicKey.Keys); err == nil {
			err = readSince(where+".publicKey", root.PublicKey.Since, read.PublicKey.Keys)
		}
	case root.Keyless != nil:
		read.Keyless, err = readKeyless(where+".keyless", root.Keyless)
	case root.PKI != nil:
		read.PKI, err = readPKI(where+".pki", root.PKI)
	case root.Notation != nil:
		read.Notation, err = readNotation(where+".notation", root.Notation)
	}
	return read, err
}

func readScopes(p *Policy, doc *document) error {
	p.scopes = make(map[string]Rule, len(doc.Scopes))
	for _, scope := range slices.Sorted(maps.Keys(doc.Scopes)) {
		if err := reference.CheckScope(scope); err != nil {
			return invalid(fmt.Sprintf("scopes: %q: %v", scope, err),
				"a normalised registry, namespace or repository, without tag, digest or wildcard", rerender)
		}
		rule, err := readRule(scope, doc.Scopes[scope], p.roots)
		if err != nil {
			return err
		}
		p.scopes[scope] = rule
	}
	return nil
}

func readRule(scope string, r ruleJSON, roots map[string]Root) (Rule, error) {
	var rules []Rule
	if r.AnyOf != nil {
		rules = append(rules, Rule{Kind: AnyOf, Roots: r.AnyOf})
	}
	if r.AllOf != nil {
		rules = append(rules, Rule{Kind: AllOf, Roots: r.AllOf})
	}
	if r.Accept != nil && *r.Accept {
		rules = append(rules, Rule{Kind: Accept})
	}
	if r.Reject != nil && *r.Reject {
		rules = append(rules, Rule{Kind: Reject})
	}
	given := 0
	for _, set := range []bool{r.AnyOf != nil, r.AllOf != nil, r.Accept != nil, r.Reject != nil} {
		if set {
			given++
		}
	}
	if len(rules) != 1 || given != 1 {
		return Rule{}, invalid(fmt.Sprintf("scopes.%q: no single rule", scope),
			`one of "anyOf", "allOf", "accept": true, "reject": true`, rerender)
	}
	rule := rules[0]
	if err := checkRootNames(fmt.Sprintf("scopes.%q.%s", scope, rule.Kind), rule.Kind, rule.Roots, roots); err != nil {
		return Rule{}, err
	}
	err := readFurther(&rule, fmt.Sprintf("scopes.%q", scope), r, roots)
	return rule, err
}

func checkRootNames(where string, kind Kind, names []string, roots map[string]Root) error {
	if kind != AnyOf && kind != AllOf {
		return nil
	}
	if len(names) == 0 {
		return invalid(where+": empty", "at least one root", rerender)
	}
	seen := map[string]bool{}
	for _, name := range names {
		if _, ok := roots[name]; !ok || seen[name] {
			return invalid(fmt.Sprintf("%s: %q", where, name), "names from roots, each once", rerender)
		}
		seen[name] = true
	}
	return nil
}

func readPins(p *Policy, doc *document) error {
	p.pinned = make(map[string]string, len(doc.Pinned))
	return addPins(p, "pinned", doc.Pinned)
}

func addPins(p *Policy, where string, pins []string) error {
	for i, pin := range pins {
		name, err := reference.Normalise(pin)
		if err != nil || name.Digest == "" || name.String() != pin {
			return invalid(fmt.Sprintf("%s[%d]: %q", where, i, pin), "registry/path@sha256:<hex>, normalised", rerender)
		}
		p.pinned[name.Digest] = pin
		p.pins = append(p.pins, pin)
	}
	return nil
}

func readRevoked(p *Policy, doc *document) error {
	var err error
	if p.revokedKeys, err = digestSet("revoked.keys", doc.Revoked.Keys); err != nil {
		return err
	}
	if p.revokedCertificates, err = readRevokedCertificates("revoked.certificates", doc.Revoked.Certificates); err != nil {
		return err
	}
	if p.revokedDigests, err = digestSet("revoked.digests", doc.Revoked.Digests); err != nil {
		return err
	}
	return readLists(p, doc.Revoked.Lists)
}

func digestSet(where string, digests []string) (map[string]bool, error) {
	set := make(map[string]bool, len(digests))
	for i, digest := range digests {
		if err := reference.CheckDigest(digest); err != nil {
			return nil, invalid(fmt.Sprintf("%s[%d]: %v", where, i, err), "sha256:<64 hex digits>", rerender)
		}
		set[digest] = true
	}
	return set, nil
}

func validRootName(name string) bool {
	return name != "" && len(name) <= 128 && strings.Trim(name,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// clean drops the names of Go's own types from a JSON error.
func clean(err error) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "into Go ", "into ")), " ")
}
