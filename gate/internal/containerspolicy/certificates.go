package containerspolicy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/root"

	"countersign/gate/internal/policy"
)

// The engine takes an authority or a log for good as long as it stands in its policy. So
// what has an end in a trusted root is left out: what rests on it is refused there, and
// never taken for longer than the gate does.

// judgesFulcio says whether the engine judges a root by certificate of a Sigstore as
// strictly as the gate: an e-mail address written out, one trusted root, a log's entry.
func judgesFulcio(k *policy.Keyless) bool {
	subject := k.Subject.String()
	return strings.Contains(subject, "@") && !strings.Contains(subject, "://") && !strings.Contains(subject, "*") &&
		len(k.Authorities) == 1 && k.Authorities[0].Require.Log > 0 &&
		len(lasting(k.Authorities[0].Material)) > 0 && len(logKeys(k.Authorities[0].Material)) > 0
}

// certified asks for a signature by a root that the engine judges by its certificates.
func certified(of policy.Root) requirement {
	if of.PKI != nil {
		asked := &pki{Roots: data(certificates(of.PKI.Roots)), Email: of.PKI.Name.Value}
		if len(of.PKI.Intermediates) > 0 {
			asked.Intermediates = data(certificates(of.PKI.Intermediates))
		}
		return requirement{PKI: asked}
	}
	trusted := of.Keyless.Authorities[0].Material
	by := requirement{Fulcio: &fulcio{data(certificates(lasting(trusted))), of.Keyless.Issuer, of.Keyless.Subject.String()}}
	keys := logKeys(trusted)
	if len(keys) == 1 {
		by.RekorKeyData = keys[0]
		return by
	}
	by.RekorKeyDatas = keys
	return by
}

// lasting gives the certificates of authorities that have no end: each root, and what
// below it has a time within its own. The engine trusts each of them by itself, and may
// not look at those above.
func lasting(trusted root.TrustedMaterial) []*x509.Certificate {
	var found []*x509.Certificate
	for _, each := range trusted.FulcioCertificateAuthorities() {
		authority, ok := each.(*root.FulcioCertificateAuthority)
		if !ok || !authority.ValidityPeriodEnd.IsZero() {
			continue
		}
		above := authority.Root
		found = append(found, above)
		for _, one := range slices.Backward(authority.Intermediates) {
			if one.NotBefore.Before(above.NotBefore) || one.NotAfter.After(above.NotAfter) {
				break
			}
			found, above = append(found, one), one
		}
	}
	return found
}

// logKeys gives the keys of logs that have no end and sign by ECDSA on P-256, as Rekor v1
// does, sorted.
func logKeys(trusted root.TrustedMaterial) []string {
	var found []string
	for _, log := range trusted.RekorLogs() {
		key, ok := log.PublicKey.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() || !log.ValidityPeriodEnd.IsZero() {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			continue // a point that is not on its curve verifies nothing
		}
		found = append(found, data(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	}
	slices.Sort(found)
	return found
}

func certificates(all []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, one := range all {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one.Raw}))
	}
	return out.Bytes()
}
