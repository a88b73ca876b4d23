package policy

import (
	"crypto/x509"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"regexp"

	"countersign/gate/internal/reference"
)

// revoked certificates are named by the fingerprint of their DER, or by issuer (RFC 2253)
// and serial number.
type revokedCertificateJSON struct {
	Issuer string `json:"issuer"`
	Serial string `json:"serial"`
}

var serialNumber = regexp.MustCompile(`^(0|[1-9a-f][0-9a-f]{0,39})$`)

func readRevokedCertificates(where string, entries []jsontext.Value) (map[string]bool, error) {
	set := make(map[string]bool, len(entries))
	for i, entry := range entries {
		name, err := revokedCertificate(entry)
		if err != nil {
			return nil, invalid(fmt.Sprintf("%s[%d]: %v", where, i, err),
				`sha256:<64 hex digits>, or {"issuer": a name as in RFC 2253, "serial": lower-case hex digits}`, rerender)
		}
		set[name] = true
	}
	return set, nil
}

func revokedCertificate(entry jsontext.Value) (string, error) {
	if entry.Kind() == '"' {
		var fingerprint string
		if err := json.Unmarshal(entry, &fingerprint); err != nil {
			return "", err
		}
		return fingerprint, reference.CheckDigest(fingerprint)
	}
	var named revokedCertificateJSON
	if err := json.Unmarshal(entry, &named, json.RejectUnknownMembers(true)); err != nil {
		return "", err
	}
	if named.Issuer == "" || !serialNumber.MatchString(named.Serial) {
		return "", fmt.Errorf("issuer %q, serial %q", named.Issuer, named.Serial)
	}
	return issuerAndSerial(named.Issuer, named.Serial), nil
}

func issuerAndSerial(issuer, serial string) string { return serial + " of " + issuer }

// RevokedCertificate says whether the policy revokes the certificate, or the key in it.
func (p *Policy) RevokedCertificate(c *x509.Certificate) bool {
	return p.revokedCertificates[hash(c.Raw)] || p.revokedKeys[hash(c.RawSubjectPublicKeyInfo)] ||
		p.revokedCertificates[issuerAndSerial(c.Issuer.String(), c.SerialNumber.Text(16))]
}
