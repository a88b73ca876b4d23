package policy

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// Notation is a root of trust in certificates as the Notary Project has it (specifications,
// trust-store-trust-policy.md), at its level "strict". There is no other level.
type Notation struct {
	Roots              []*x509.Certificate // trust store of type ca
	SigningAuthorities []*x509.Certificate // trust store of type signingAuthority
	TimestampRoots     []*x509.Certificate // trust store of type tsa
	Identities         []Identity          // of which the signer's certificate must have one
	CRLs               []*x509.RevocationList
}

type notationJSON struct {
	Roots              []string `json:"roots"`
	SigningAuthorities []string `json:"signingAuthorities"`
	Identities         []string `json:"identities"`
	TimestampRoots     []string `json:"timestampRoots"`
	CRLs               []string `json:"crls"`
}

func readNotation(where string, doc *notationJSON) (*Notation, error) {
	n := &Notation{}
	for _, store := range []struct {
		name  string
		texts []string
		into  *[]*x509.Certificate
	}{{"roots", doc.Roots, &n.Roots}, {"signingAuthorities", doc.SigningAuthorities, &n.SigningAuthorities}, {"timestampRoots", doc.TimestampRoots, &n.TimestampRoots}} {
		for i, text := range store.texts {
			certificates, err := anchors(text)
			if err != nil {
				return nil, invalid(fmt.Sprintf("%s.%s[%d]: %v", where, store.name, i, err),
					"PEM blocks CERTIFICATE of authorities, or of a signer that signed its own", rerender)
			}
			*store.into = append(*store.into, certificates...)
		}
	}
	if len(n.Roots)+len(n.SigningAuthorities) == 0 {
		return nil, invalid(where+".roots: empty", "at least one certificate of an authority", rerender)
	}
	for i, text := range doc.Identities {
		identity, err := ParseIdentity(text)
		if err == nil && slices.ContainsFunc(n.Identities, identity.overlaps) {
			err = errors.New("it says no more than another one")
		}
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s.identities[%d]: %q: %v", where, i, text, err), identityForm, rerender)
		}
		n.Identities = append(n.Identities, identity)
	}
	if len(n.Identities) == 0 {
		return nil, invalid(where+".identities: empty", identityForm, rerender)
	}
	for i, text := range doc.CRLs {
		crl, err := lastingCRL(text)
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s.crls[%d]: %v", where, i, err), "one PEM block X509 CRL, whole and with the time of the next one", rerender)
		}
		n.CRLs = append(n.CRLs, crl)
	}
	return n, nil
}

// anchors reads what a Notary Project trust store may hold: certificates of authorities,
// and of signers that nobody but themselves vouches for.
func anchors(text string) ([]*x509.Certificate, error) {
	certificates, err := readCertificates(text)
	for _, c := range certificates {
		alone := bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
		if !(c.BasicConstraintsValid && c.IsCA) && !alone {
			return nil, fmt.Errorf("%s is neither the certificate of an authority nor self-signed", c.Subject)
		}
	}
	return certificates, err
}

// lastingCRL reads a list of revocations. Who issued it is asked when it is used: the
// certificates between signer and root come with the signature.
func lastingCRL(text string) (*x509.RevocationList, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("not one PEM block X509 CRL")
	}
	crl, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, err
	}
	if crl.NextUpdate.IsZero() {
		return nil, errors.New("it does not say when the next one comes")
	}
	for _, extension := range crl.Extensions {
		if extension.Critical {
			return nil, fmt.Errorf("it is a part of a list, or needs what this gate does not know (extension %s)", extension.Id)
		}
	}
	return crl, nil
}
