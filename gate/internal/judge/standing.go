package judge

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"countersign/gate/internal/policy"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/result"
)

// errNoCRL: a certificate says where its revocations are listed, and the policy has no list.
var errNoCRL = errors.New("no list of revocations")

// standing tells notation-go whether certificates are revoked: by the policy and the lists
// in it, and by nobody else. It implements revocation.Validator, and asks no network.
type standing struct {
	policy *policy.Policy
	crls   []*x509.RevocationList
}

// report is what a standing has found on the way of one signature through notation-go,
// which hands on only words.
type report struct{ err error }

type reportKey struct{}

// ValidateContext implements revocation.Validator, for chains that were verified: each
// certificate was issued by the next.
func (s *standing) ValidateContext(ctx context.Context, o revocation.ValidateContextOptions) ([]*result.CertRevocationResult, error) {
	var results []*result.CertRevocationResult
	for i, c := range o.CertChain {
		issuer := o.CertChain[min(i+1, len(o.CertChain)-1)]
		found := &result.CertRevocationResult{Result: result.ResultOK, RevocationMethod: result.RevocationMethodCRL}
		if err := s.check(c, issuer); err != nil {
			if noted, ok := ctx.Value(reportKey{}).(*report); ok && (noted.err == nil || errors.Is(err, errRevoked)) {
				noted.err = err
			}
			found.Result = result.ResultUnknown
			if errors.Is(err, errRevoked) {
				found.Result = result.ResultRevoked
			}
		}
		results = append(results, found)
	}
	return results, nil
}

// check returns nil if the certificate is not revoked. One that names a list or a
// responder needs a list of the policy's that is good now (RFC 5280, 5).
func (s *standing) check(c, issuer *x509.Certificate) error {
	if s.policy.RevokedCertificate(c) {
		return fmt.Errorf("the certificate %s of %s is %w by the policy", c.SerialNumber.Text(16), c.Issuer, errRevoked)
	}
	if c == issuer {
		return nil // an anchor; nobody is above it
	}
	var problem error
	if namesRevocation(c) {
		problem = fmt.Errorf("the policy has %w by %s, which the certificate %s asks for", errNoCRL, c.Issuer, c.SerialNumber.Text(16))
	}
	listed := false
	for _, crl := range s.crls {
		if !bytes.Equal(crl.RawIssuer, c.RawIssuer) {
			continue
		}
		switch err := usable(crl, issuer); {
		case err == nil:
			listed = true
		case !listed:
			problem = err
		}
		// What a list says that was true once is revoked, whatever its age.
		if crl.CheckSignatureFrom(issuer) != nil {
			continue
		}
		for _, entry := range crl.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return fmt.Errorf("the certificate %s is %w by its issuer %s", c.SerialNumber.Text(16), errRevoked, c.Issuer)
			}
		}
	}
	if listed {
		return nil
	}
	return problem
}

// usable returns nil if the list is the issuer's, and good now.
func usable(crl *x509.RevocationList, issuer *x509.Certificate) error {
	if err := crl.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the policy has %w by %s: the one in its name is not signed by it", errNoCRL, issuer.Subject)
	}
	if at := now(); at.After(crl.NextUpdate) || at.Before(crl.ThisUpdate) {
		return fmt.Errorf("the list of what %s has revoked is %w: it is good from %s to %s", crl.Issuer, errStaleCRL, stamp(crl.ThisUpdate), stamp(crl.NextUpdate))
	}
	return nil
}

// namesRevocation says whether the certificate tells where its revocation is to be asked
// for: a list (CRL distribution points, freshest CRL) or a responder (OCSP), in any form.
func namesRevocation(c *x509.Certificate) bool {
	for _, extension := range c.Extensions {
		if extension.Id.Equal(crlPointsOID) || extension.Id.Equal(freshestOID) {
			return true
		}
	}
	return len(c.OCSPServer) > 0
}

var (
	crlPointsOID = asn1.ObjectIdentifier{2, 5, 29, 31}
	freshestOID  = asn1.ObjectIdentifier{2, 5, 29, 46}
)

// until tells when the first of the lists about the chain is to be renewed.
func (s *standing) until(chain []*x509.Certificate) (end time.Time) {
	for _, c := range chain {
		for _, crl := range s.crls {
			if bytes.Equal(crl.RawIssuer, c.RawIssuer) {
				end = earliest(end, crl.NextUpdate)
			}
		}
	}
	return end
}
