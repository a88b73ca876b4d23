package policy

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// PKI is a root of trust in certificates of one's own authorities.
type PKI struct {
	Roots         []*x509.Certificate
	Intermediates []*x509.Certificate
	Name          Name // that the signer's certificate must have, exactly
	Timestamps    []root.TimestampingAuthority
	CRLs          []*x509.RevocationList
}

type pkiJSON struct {
	Roots          []string `json:"roots"`
	Intermediates  []string `json:"intermediates"`
	Email          string   `json:"email"`
	DNS            string   `json:"dns"`
	URI            string   `json:"uri"`
	TimestampRoots []string `json:"timestampRoots"`
	CRLs           []string `json:"crls"`
}

func readPKI(where string, doc *pkiJSON) (*PKI, error) {
	p := &PKI{}
	var err error
	if p.Name, err = oneName(doc); err != nil {
		return nil, invalid(where+": "+err.Error(), "exactly one of email, dns, uri, written out", rerender)
	}
	if p.Roots, err = authorities(where+".roots", doc.Roots); err != nil {
		return nil, err
	}
	if len(p.Roots) == 0 {
		return nil, invalid(where+".roots: empty", "at least one certificate of an authority", rerender)
	}
	if p.Intermediates, err = authorities(where+".intermediates", doc.Intermediates); err != nil {
		return nil, err
	}
	for i, text := range doc.TimestampRoots {
		authority, err := readTimestampAuthority(text)
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s.timestampRoots[%d]: %v", where, i, err),
				"PEM: the root of a timestamp authority, after its other certificates if they are given", rerender)
		}
		authority.URI = fmt.Sprintf("%s.timestampRoots[%d]", where, i) // tells authorities apart
		p.Timestamps = append(p.Timestamps, authority)
	}
	for i, text := range doc.CRLs {
		crl, err := p.readCRL(text)
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s.crls[%d]: %v", where, i, err),
				"one PEM block X509 CRL, signed by one of the root's authorities", rerender)
		}
		p.CRLs = append(p.CRLs, crl)
	}
	return p, nil
}

func oneName(doc *pkiJSON) (Name, error) {
	var names []Name
	for kind, value := range map[NameKind]string{Email: doc.Email, DNS: doc.DNS, URI: doc.URI} {
		if value != "" {
			names = append(names, Name{kind, value})
		}
	}
	if len(names) != 1 {
		return Name{}, fmt.Errorf("%d names", len(names))
	}
	if strings.ContainsAny(names[0].Value, "* \t\r\n") {
		return Name{}, fmt.Errorf("%s: %q", names[0].Kind, names[0].Value)
	}
	return names[0], nil
}

// authorities reads certificates of authorities, any number in a text.
func authorities(where string, texts []string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for i, text := range texts {
		certificates, err := readCertificates(text)
		for _, c := range certificates {
			if !c.BasicConstraintsValid || !c.IsCA {
				err = fmt.Errorf("%s is not the certificate of an authority", c.Subject)
			}
		}
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s[%d]: %v", where, i, err), "PEM blocks CERTIFICATE of authorities", rerender)
		}
		all = append(all, certificates...)
	}
	return all, nil
}

func readCertificates(text string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := []byte(text); len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not a PEM block CERTIFICATE")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if err := checkKey(c.PublicKey); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate")
	}
	return all, nil
}

func readTimestampAuthority(text string) (*root.SigstoreTimestampingAuthority, error) {
	chain, err := readCertificates(text)
	if err != nil {
		return nil, err
	}
	authority := &root.SigstoreTimestampingAuthority{Root: chain[len(chain)-1]}
	if !authority.Root.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of an authority", authority.Root.Subject)
	}
	for i, c := range chain[:len(chain)-1] {
		switch {
		case c.IsCA:
			authority.Intermediates = append(authority.Intermediates, c)
		case i == 0:
			authority.Leaf = c
		default:
			return nil, fmt.Errorf("%s is not the certificate of an authority", c.Subject)
		}
	}
	return authority, nil
}

func (p *PKI) readCRL(text string) (*x509.RevocationList, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("not one PEM block X509 CRL")
	}
	crl, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, err
	}
	for _, list := range [][]*x509.Certificate{p.Roots, p.Intermediates} {
		for _, authority := range list {
			if bytes.Equal(authority.RawSubject, crl.RawIssuer) && crl.CheckSignatureFrom(authority) == nil {
				return crl, nil
			}
		}
	}
	return nil, fmt.Errorf("%s, whose list it is, is none of the root's authorities", crl.Issuer)
}
