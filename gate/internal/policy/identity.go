package policy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// Identity is a subject that a signer's certificate must have: each attribute that it
// names, with that value. What it does not name may be anything.
type Identity struct {
	Text       string            // as the policy has it
	attributes map[string]string // by the short name of the type
}

const (
	subjectPrefix = "x509.subject:"
	identityForm  = `"x509.subject: C=…, O=…, CN=…": a subject as in RFC 4514, with at least C and O`
	maxIdentity   = 1024 // bytes
)

// subjectTypes are the attribute types that can be asked for, by their short name
// (RFC 4514, 3, and what crypto/x509/pkix adds).
var subjectTypes = map[string]string{
	"C": "2.5.4.6", "ST": "2.5.4.8", "L": "2.5.4.7", "O": "2.5.4.10", "OU": "2.5.4.11", "CN": "2.5.4.3",
	"STREET": "2.5.4.9", "POSTALCODE": "2.5.4.17", "SERIALNUMBER": "2.5.4.5",
}

var hexEscape = regexp.MustCompile(`\\[0-9A-Fa-f]{2}`)

// ParseIdentity reads a trusted identity. "S" is another name of "ST", as in the Notary
// Project's specification.
func ParseIdentity(text string) (Identity, error) {
	name, ok := strings.CutPrefix(text, subjectPrefix)
	switch {
	case !ok:
		return Identity{}, errors.New("it does not start with x509.subject:")
	case len(text) > maxIdentity:
		return Identity{}, fmt.Errorf("longer than %d bytes", maxIdentity)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '*' || r == ';' }), strings.Contains(name, "=#"), hexEscape.MatchString(name):
		return Identity{}, errors.New("a wildcard, a semicolon, a control character or a value in hexadecimal")
	}
	parsed, err := ldap.ParseDN(strings.TrimSpace(name))
	if err != nil {
		return Identity{}, err
	}
	identity := Identity{Text: text, attributes: map[string]string{}}
	for _, rdn := range parsed.RDNs {
		if len(rdn.Attributes) != 1 {
			return Identity{}, errors.New("several attributes joined by '+'")
		}
		kind, value := rdn.Attributes[0].Type, rdn.Attributes[0].Value
		if kind == "S" {
			kind = "ST"
		}
		switch {
		case subjectTypes[kind] == "":
			return Identity{}, fmt.Errorf("attribute %q, expected one of %s", kind, strings.Join(slices.Sorted(maps.Keys(subjectTypes)), ", "))
		case value == "" || identity.attributes[kind] != "":
			return Identity{}, fmt.Errorf("%s is empty, or a duplicate", kind)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '*' }):
			return Identity{}, fmt.Errorf("%s has a wildcard or a control character", kind)
		}
		identity.attributes[kind] = value
	}
	if identity.attributes["C"] == "" || identity.attributes["O"] == "" {
		return Identity{}, errors.New("without C or O it could be anybody")
	}
	return identity, nil
}

// InSpec says whether the Notary Project's own verifiers take the identity: they want
// ST as well.
func (i Identity) InSpec() bool { return i.attributes["ST"] != "" }

// overlaps says whether one of the two is met by whatever meets the other.
func (i Identity) overlaps(other Identity) bool {
	return within(i.attributes, other.attributes) || within(other.attributes, i.attributes)
}

// Matches says whether the certificate's subject has all that the identity names. A
// subject that has one of them twice has none of them.
func (i Identity) Matches(c *x509.Certificate) bool {
	var subject pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawSubject, &subject); err != nil || len(rest) > 0 {
		return false
	}
	has := map[string]string{}
	for _, rdn := range subject {
		for _, attribute := range rdn {
			value, isText := attribute.Value.(string)
			for kind, id := range subjectTypes {
				if attribute.Type.String() != id {
					continue
				}
				if _, twice := has[kind]; twice || !isText || len(rdn) != 1 {
					return false
				}
				has[kind] = value
			}
		}
	}
	return within(i.attributes, has)
}

// within says whether all of small is in large.
func within(small, large map[string]string) bool {
	for key, value := range small {
		if large[key] != value {
			return false
		}
	}
	return true
}
