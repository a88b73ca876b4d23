package judge

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// now is the clock; tests that judge old signatures set it.
var now = time.Now

// authority is who vouches for certificates: a trusted root, or authorities of one's own.
type authority struct {
	root.TrustedMaterial // logs and timestamp authorities
	issuers              []*issuer
	require              policy.Require
	takesChains          bool // intermediates may come with the signature
}

// FulcioCertificateAuthorities implements root.TrustedMaterial: sigstore-go asks the
// issuers, which know of revocations.
func (a *authority) FulcioCertificateAuthorities() []root.CertificateAuthority {
	var all []root.CertificateAuthority
	for _, i := range a.issuers {
		all = append(all, i)
	}
	return all
}

// issuer is one root certificate with its intermediates.
type issuer struct {
	*root.FulcioCertificateAuthority
	policy *policy.Policy
	crls   []*x509.RevocationList
}

// What a chain can be refused for beside x509's own reasons.
var (
	errRevoked  = errors.New("revoked")
	errStaleCRL = errors.New("out of date")
)

// Verify implements root.CertificateAuthority: chains from the certificate to the root,
// all of whose certificates are valid at that time, and none of them revoked.
func (i *issuer) Verify(leaf *x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	return i.chains(leaf, nil, at)
}

func (i *issuer) chains(leaf *x509.Certificate, more []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	if err := signsCode(leaf); err != nil {
		return nil, err
	}
	ca := *i.FulcioCertificateAuthority
	ca.Intermediates = append(append([]*x509.Certificate{}, ca.Intermediates...), more...)
	found, err := ca.Verify(leaf, at)
	if err != nil {
		return nil, err
	}
	var good [][]*x509.Certificate
	for _, chain := range found {
		if err = i.standing(chain); err == nil {
			good = append(good, chain)
		}
	}
	if len(good) == 0 {
		return nil, err
	}
	return good, nil
}

// standing returns nil if no certificate of the chain is revoked, by the policy or by a
// list (RFC 5280, 5) that is still good.
func (i *issuer) standing(chain []*x509.Certificate) error {
	for _, c := range chain {
		if i.policy.RevokedCertificate(c) {
			return fmt.Errorf("the certificate %s of %s is %w by the policy", c.SerialNumber.Text(16), c.Issuer, errRevoked)
		}
		for _, crl := range i.crls {
			if !bytes.Equal(crl.RawIssuer, c.RawIssuer) {
				continue
			}
			if !crl.NextUpdate.IsZero() && now().After(crl.NextUpdate) {
				return fmt.Errorf("the list of what %s has revoked is %w since %s", crl.Issuer, errStaleCRL, stamp(crl.NextUpdate))
			}
			for _, entry := range crl.RevokedCertificateEntries {
				if entry.SerialNumber.Cmp(c.SerialNumber) == 0 {
					return fmt.Errorf("the certificate %s is %w by its issuer %s", c.SerialNumber.Text(16), errRevoked, c.Issuer)
				}
			}
		}
	}
	return nil
}

// sent gives the intermediates that came with a signature, if they count.
func (a *authority) sent(c *certified) []*x509.Certificate {
	if a.takesChains {
		return c.chain
	}
	return nil
}

// chainAt gives a chain that is valid at that time.
func (a *authority) chainAt(c *certified, at time.Time) ([][]*x509.Certificate, error) {
	var failures []error
	for _, i := range a.issuers {
		chains, err := i.chains(c.leaf, a.sent(c), at)
		if err == nil {
			return chains, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// leads returns nil if the certificate leads to the authority, at whatever time.
func (a *authority) leads(c *certified) error {
	var failures []error
	for _, i := range a.issuers {
		timeless := *i
		ca := *i.FulcioCertificateAuthority
		ca.ValidityPeriodStart, ca.ValidityPeriodEnd = time.Time{}, time.Time{}
		timeless.FulcioCertificateAuthority = &ca
		_, err := timeless.chains(c.leaf, a.sent(c), c.leaf.NotBefore)
		if err == nil || outOfTime(err) || errors.Is(err, errRevoked) || errors.Is(err, errStaleCRL) {
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func outOfTime(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

// examine goes through all that a signature must have, step by step, so that it can say
// what is missing; each step is sigstore-go's. It gives the end of the judgement (zero:
// none) where it was made by the clock, or nothing but what is wrong.
func (a *authority) examine(c *certified) (end time.Time, problem *finding) {
	if c.problem != nil {
		return end, c.problem
	}
	if err := a.leads(c); err != nil {
		return end, &finding{code.UntrustedChain, fmt.Sprintf("its certificate (%s, issued by %s) leads to no trusted authority: %v", shown(namesOf(c.leaf)), c.leaf.Issuer, err)}
	}
	if err := c.signed(); err != nil {
		return end, &finding{code.Tampered, fmt.Sprintf("its certificate is of a trusted authority, and it does not hold under it: %v", err)}
	}
	times, problem := a.times(c)
	if problem != nil {
		return end, problem
	}
	byClock := len(times) == 0
	if byClock {
		times = []time.Time{now()}
	}
	for _, at := range times {
		chains, err := a.chainAt(c, at)
		if err != nil {
			return end, chainProblem(c, at, byClock, err)
		}
		if a.require.SCT > 0 {
			if err := verify.VerifySignedCertificateTimestamp(chains, a.require.SCT, a); err != nil {
				return end, &finding{code.NoTrustedTime, fmt.Sprintf("no trusted log of certificates has seen its certificate (SCT): %v", err)}
			}
		}
		end = earliest(end, a.end(chains[0], byClock))
	}
	return end, nil
}

// chainProblem says why no chain holds at the time that counts.
func chainProblem(c *certified, at time.Time, byClock bool, err error) *finding {
	what := "the proven time of the signature is " + stamp(at)
	if byClock {
		what = "no trusted time is known, and it is now " + stamp(at)
	}
	switch {
	case errors.Is(err, errRevoked):
		return &finding{code.Revoked, err.Error()}
	case errors.Is(err, errStaleCRL):
		return &finding{code.Expired, err.Error()}
	}
	return &finding{code.Expired, fmt.Sprintf("%s; its certificate is valid from %s to %s: %v", what, stamp(c.leaf.NotBefore), stamp(c.leaf.NotAfter), err)}
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// end tells until when a chain is good: to the next list of what was revoked, and
// where the clock decides, to the end of any of its certificates.
func (a *authority) end(chain []*x509.Certificate, byClock bool) (end time.Time) {
	for _, c := range chain {
		if byClock {
			end = earliest(end, c.NotAfter)
		}
		for _, i := range a.issuers {
			for _, crl := range i.crls {
				if bytes.Equal(crl.RawIssuer, c.RawIssuer) {
					end = earliest(end, crl.NextUpdate)
				}
			}
		}
	}
	return end
}

// earliest gives the earlier of two ends; zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// times gives the trusted times of a signature, in log entries and timestamps.
func (a *authority) times(c *certified) ([]time.Time, *finding) {
	var times []time.Time
	if a.require.Log > 0 {
		logged, err := verify.VerifyTlogEntry(c.entity, a, a.require.Log, true)
		if err != nil {
			return nil, a.entryProblem(c, err)
		}
		for _, at := range logged {
			times = append(times, at.Time)
		}
	}
	stamped, failures, err := verify.VerifySignedTimestamp(c.entity, a)
	if err != nil {
		return nil, &finding{code.Malformed, "its timestamps cannot be read: " + err.Error()}
	}
	for _, at := range stamped {
		times = append(times, at.Time)
	}
	if len(times) >= a.require.Time {
		return times, nil
	}
	found := "no time that a log has signed, and no timestamp"
	if err := errors.Join(failures...); err != nil {
		found = "no trusted timestamp: " + err.Error()
	}
	return nil, &finding{code.NoTrustedTime, fmt.Sprintf("it has %d trusted times of %d: %s", len(times), a.require.Time, found)}
}

// further asks what the rule asks of an attestation beside its signature. It gives the
// earlier of that judgement's end and end.
func (a *authority) further(ctx context.Context, set *material, c *certified, end time.Time) (time.Time, *finding) {
	if set.demand == nil {
		return end, nil
	}
	times, problem := a.times(c)
	if problem != nil {
		return end, problem
	}
	more, problem := set.demand.further(ctx, set.Set, c.entity.GetDsseEnvelope().GetPayload(), times)
	return earliest(end, more), problem
}

// entryProblem says why its log entries do not count: they are of no trusted log, or
// they are of one and contradict the signature.
func (a *authority) entryProblem(c *certified, err error) *finding {
	entries, parseErr := c.entity.TlogEntries()
	if parseErr != nil {
		return &finding{code.Malformed, "its log entries cannot be read: " + parseErr.Error()}
	}
	for _, entry := range entries {
		log, known := a.RekorLogs()[hex.EncodeToString([]byte(entry.LogKeyID()))]
		at := entry.IntegratedTime()
		switch {
		case !known:
		case !at.IsZero() && (at.Before(log.ValidityPeriodStart) || !log.ValidityPeriodEnd.IsZero() && at.After(log.ValidityPeriodEnd)):
			return &finding{code.NoTrustedTime, fmt.Sprintf("its log entry is of %s, when %s was not trusted", stamp(at), log.BaseURL)}
		case entry.HasInclusionPromise() && tlog.VerifySET(entry, a.RekorLogs()) == nil && (at.Before(c.leaf.NotBefore) || at.After(c.leaf.NotAfter)):
			return chainProblem(c, at, false, errors.New("it was logged at another time"))
		default:
			return &finding{code.Tampered, fmt.Sprintf("its entry in the trusted log %s does not hold, or is of something else: %v", log.BaseURL, err)}
		}
	}
	if len(entries) == 0 {
		return &finding{code.NoTrustedTime, fmt.Sprintf("it has no log entry, and needs %d", a.require.Log)}
	}
	return &finding{code.NoTrustedTime, fmt.Sprintf("its log entries are of no trusted log: %v", err)}
}
