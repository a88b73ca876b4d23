// Package expiry tells when what a root of trust rests on ends, and how old it is.
package expiry

import (
	"crypto/x509"
	"slices"
	"time"

	"countersign/gate/internal/policy"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// How what ends is renewed. What lies on the node comes with the policy.
const (
	renewTrustedRoot = "bring a newer trusted root: trust.update, and then policy.apply"
	renewKey         = "go over to a new key: signing.rotate"
	renewFile        = "put a renewed one into the policy, and then policy.apply"
)

// Part is something of a root of trust and when it ends (the zero time means never), or
// since when it is in use.
type Part struct {
	What string
	At   time.Time
	Mend string
}

// First gives when the first part of a root ends; the zero time if none does.
func First(r policy.Root) time.Time {
	var first time.Time
	for _, each := range Parts(r) {
		if !each.At.IsZero() && (first.IsZero() || each.At.Before(first)) {
			first = each.At
		}
	}
	return first
}

// Parts gives all that a root of trust rests on and that may end.
func Parts(r policy.Root) []Part {
	var found []Part
	switch {
	case r.Keyless != nil:
		for _, authority := range r.Keyless.Authorities {
			found = append(found, listed(authority.Material)...)
		}
	case r.PKI != nil:
		found = append(ofCertificates(r.PKI.Roots, r.PKI.Intermediates), ofCRLs(r.PKI.CRLs)...)
		for _, each := range r.PKI.Timestamps {
			found = append(found, Part{"timestamp authority", endOfTimestamps(each), renewFile})
		}
	case r.Notation != nil:
		found = ofCertificates(r.Notation.Roots, r.Notation.SigningAuthorities, r.Notation.TimestampRoots)
		found = append(found, ofCRLs(r.Notation.CRLs)...)
	}
	return found
}

// Aged gives what of a root of trust has no end, or a late one, and since when it is in
// use: keys as the policy says it, lists of revoked certificates, and the certificates of
// those who sign. Authorities are meant to live long, and a revoked key signs no more.
func Aged(p *policy.Policy, r policy.Root) []Part {
	var found []Part
	var certificates []*x509.Certificate
	var crls []*x509.RevocationList
	switch {
	case r.PublicKey != nil:
		for _, key := range r.PublicKey.Keys {
			if !key.Since.IsZero() && !p.RevokedKey(key.Fingerprint) {
				found = append(found, Part{"the key " + key.Fingerprint, key.Since, renewKey})
			}
		}
	case r.PKI != nil:
		crls = r.PKI.CRLs
	case r.Notation != nil:
		certificates, crls = r.Notation.Roots, r.Notation.CRLs
	}
	for _, c := range certificates {
		if !c.IsCA {
			found = append(found, Part{"the certificate of " + c.Subject.String(), c.NotBefore, renewFile})
		}
	}
	for _, crl := range crls {
		found = append(found, Part{"the list of revoked certificates by " + crl.Issuer.String(), crl.ThisUpdate, renewFile})
	}
	return found
}

// Oldest gives since when the oldest part of a root is in use; the zero time where none says it.
func Oldest(p *policy.Policy, r policy.Root) time.Time {
	var oldest time.Time
	for _, each := range Aged(p, r) {
		if oldest.IsZero() || each.At.Before(oldest) {
			oldest = each.At
		}
	}
	return oldest
}

// listed gives, for each kind of what a trusted root lists, when the last of its kind
// ends: that an older one has ended is how logs and authorities take turns.
func listed(m root.TrustedMaterial) []Part {
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
	return []Part{
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

func ofCertificates(stores ...[]*x509.Certificate) []Part {
	var found []Part
	for _, c := range slices.Concat(stores...) {
		found = append(found, Part{"the certificate of " + c.Subject.String(), c.NotAfter, renewFile})
	}
	return found
}

func ofCRLs(crls []*x509.RevocationList) []Part {
	var found []Part
	for _, crl := range crls {
		found = append(found, Part{"the list of revoked certificates by " + crl.Issuer.String(), crl.NextUpdate, renewFile})
	}
	return found
}
