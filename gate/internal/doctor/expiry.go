package doctor

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/policy"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// warned is how long before its end something is told.
const warned = 30 * 24 * time.Hour

// How what ends is renewed. What lies on the node comes with the policy.
const (
	renewTrustedRoot = "bring a newer trusted root: trust.update, and then policy.apply"
	renewFile        = "put a renewed one into the policy, and then policy.apply"
)

// ending is something of a root of trust and when it ends; the zero time means never.
type ending struct {
	what string
	at   time.Time
	mend string
}

// nothingEnds warns of what a policy's roots of trust rest on and what ends soon, or has
// ended. Nothing runs unseen by it: what is good is refused then.
func nothingEnds(n *Node) ([]Finding, error) {
	p, err := policy.Load(n.settings.Policy)
	if err != nil {
		return nil, skipped("the policy cannot be read")
	}
	return endings(p, time.Now()), nil
}

// endings gives a finding for each part of the policy's roots that ends within a month of now.
func endings(p *policy.Policy, now time.Time) []Finding {
	roots := p.Roots()
	slices.SortFunc(roots, func(a, b policy.Root) int { return strings.Compare(a.Name, b.Name) })
	var found []Finding
	for _, r := range roots {
		for _, each := range partsOf(r) {
			if each.at.IsZero() || each.at.After(now.Add(warned)) {
				continue
			}
			ends := "ends "
			if !each.at.After(now) {
				ends = "ended "
			}
			wanted := fmt.Sprintf("good for another %d days", int(warned.Hours()/24))
			found = append(found, Finding{"roots." + r.Name + ": " + each.what, ends + each.at.UTC().Format(time.DateOnly), wanted, each.mend})
		}
	}
	return found
}

func partsOf(r policy.Root) []ending {
	var found []ending
	switch {
	case r.Keyless != nil:
		for _, authority := range r.Keyless.Authorities {
			found = append(found, listed(authority.Material)...)
		}
	case r.PKI != nil:
		found = append(ofCertificates(r.PKI.Roots, r.PKI.Intermediates), ofCRLs(r.PKI.CRLs)...)
		for _, each := range r.PKI.Timestamps {
			found = append(found, ending{"timestamp authority", endOfTimestamps(each), renewFile})
		}
	case r.Notation != nil:
		found = ofCertificates(r.Notation.Roots, r.Notation.SigningAuthorities, r.Notation.TimestampRoots)
		found = append(found, ofCRLs(r.Notation.CRLs)...)
	}
	return found
}

// listed gives, for each kind of what a trusted root lists, when the last of its kind
// ends: that an older one has ended is how logs and authorities take turns.
func listed(m root.TrustedMaterial) []ending {
	var authorities, timestamps, logs, ctLogs []time.Time
	for _, each := range m.FulcioCertificateAuthorities() {
		if ca, ok := each.(*root.FulcioCertificateAuthority); ok {
			authorities = append(authorities, earliest(ca.ValidityPeriodEnd, append(slices.Clone(ca.Intermediates), ca.Root)))
		}
	}
	for _, each := range m.TimestampingAuthorities() {
		timestamps = append(timestamps, endOfTimestamps(each))
	}
	for _, each := range m.RekorLogs() {
		logs = append(logs, each.ValidityPeriodEnd)
	}
	for _, each := range m.CTLogs() {
		ctLogs = append(ctLogs, each.ValidityPeriodEnd)
	}
	return []ending{
		{"the last authority of its trusted root", last(authorities), renewTrustedRoot},
		{"the last log of its trusted root", last(logs), renewTrustedRoot},
		{"the last log of certificates of its trusted root", last(ctLogs), renewTrustedRoot},
		{"the last timestamp authority of its trusted root", last(timestamps), renewTrustedRoot},
	}
}

func endOfTimestamps(each root.TimestampingAuthority) time.Time {
	tsa, ok := each.(*root.SigstoreTimestampingAuthority)
	if !ok {
		return time.Time{}
	}
	return earliest(tsa.ValidityPeriodEnd, append(slices.Clone(tsa.Intermediates), tsa.Root, tsa.Leaf))
}

// earliest gives when the first of some certificates ends, or what rests on them does.
func earliest(end time.Time, certificates []*x509.Certificate) time.Time {
	for _, c := range certificates {
		if c != nil && (end.IsZero() || c.NotAfter.Before(end)) {
			end = c.NotAfter
		}
	}
	return end
}

// last gives the latest of some ends: never, if one of them never ends or there is none.
func last(ends []time.Time) time.Time {
	var found time.Time
	for _, end := range ends {
		if end.IsZero() {
			return end
		}
		if end.After(found) {
			found = end
		}
	}
	return found
}

func ofCertificates(stores ...[]*x509.Certificate) []ending {
	var found []ending
	for _, c := range slices.Concat(stores...) {
		found = append(found, ending{"the certificate of " + c.Subject.String(), c.NotAfter, renewFile})
	}
	return found
}

func ofCRLs(crls []*x509.RevocationList) []ending {
	var found []ending
	for _, crl := range crls {
		found = append(found, ending{"the list of revoked certificates by " + crl.Issuer.String(), crl.NextUpdate, renewFile})
	}
	return found
}
