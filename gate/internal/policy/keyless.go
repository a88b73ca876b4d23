package policy

import (
	"encoding/json/jsontext"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// Keyless is a root of trust in certificates of a Sigstore: who has signed, and
// authorities of which any one vouches for it.
type Keyless struct {
	Issuer      string // of the identity, exactly
	Subject     Subject
	Claims      map[string]string // by a name of Claims, exactly
	Authorities []Authority
}

// Authority is one trusted root, and how much of what it lists a signature must have.
type Authority struct {
	Material root.TrustedMaterial
	Require  Require
}

// Require says how many signed certificate timestamps, log entries and trusted times
// (a timestamp, or the time that a log has signed) a signature must have. Without a
// trusted time it is judged by the clock.
type Require struct {
	SCT, Log, Time int
}

// maxRequired bounds each number of Require.
const maxRequired = 8

// Claims are the further claims of a certificate that a root may ask for: what Fulcio's
// extensions call them (1.3.6.1.4.1.57264.1), by the policy's shorter name.
var Claims = map[string]func(certificate.Extensions) string{
	"repository":        func(e certificate.Extensions) string { return e.SourceRepositoryURI },
	"repositoryID":      func(e certificate.Extensions) string { return e.SourceRepositoryIdentifier },
	"ownerID":           func(e certificate.Extensions) string { return e.SourceRepositoryOwnerIdentifier },
	"ref":               func(e certificate.Extensions) string { return e.SourceRepositoryRef },
	"trigger":           func(e certificate.Extensions) string { return e.BuildTrigger },
	"runnerEnvironment": func(e certificate.Extensions) string { return e.RunnerEnvironment },
}

type keylessJSON struct {
	Issuer      string            `json:"issuer"`
	Subject     string            `json:"subject"`
	Claims      map[string]string `json:"claims"`
	TrustedRoot []jsontext.Value  `json:"trustedRoot"`
	Require     *requireJSON      `json:"require"`
}

type requireJSON struct {
	SCT  *int `json:"sct"`
	Log  *int `json:"log"`
	Time *int `json:"time"`
}

func readKeyless(where string, doc *keylessJSON) (*Keyless, error) {
	subject, err := parseSubject(doc.Subject)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%s.subject: %q: %v", where, doc.Subject, err),
			"one name, or a URI with host and owner (an e-mail address with its domain) written out and '*' or '**' in the rest", rerender)
	}
	if !strings.HasPrefix(doc.Issuer, "https://") && !strings.HasPrefix(doc.Issuer, "http://") || strings.ContainsAny(doc.Issuer, "* \t\r\n") {
		return nil, invalid(fmt.Sprintf("%s.issuer: %q", where, doc.Issuer), "the issuer's whole URL, without a wildcard", rerender)
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Claims)) {
		if Claims[name] == nil || doc.Claims[name] == "" {
			return nil, invalid(fmt.Sprintf("%s.claims: %q: %q", where, name, doc.Claims[name]),
				"a value for one of "+strings.Join(slices.Sorted(maps.Keys(Claims)), ", "), rerender)
		}
	}
	if len(doc.TrustedRoot) == 0 {
		return nil, invalid(where+".trustedRoot: empty", "at least one trusted_root.json", rerender)
	}
	k := &Keyless{Issuer: doc.Issuer, Subject: subject, Claims: doc.Claims}
	for i, document := range doc.TrustedRoot {
		authority, err := readAuthority(fmt.Sprintf("%s.trustedRoot[%d]", where, i), document, doc.Require)
		if err != nil {
			return nil, err
		}
		k.Authorities = append(k.Authorities, authority)
	}
	return k, nil
}

// ReadAuthority reads a trusted root that nothing more is said of. It returns a
// *code.Refusal with POLICY_INVALID; where tells which document it is.
func ReadAuthority(where string, document []byte) (Authority, error) {
	return readAuthority(where, document, nil)
}

// readAuthority reads a trusted root (protobuf-specs, sigstore_trustroot.proto). What
// it lists is asked for: a document that lists nothing to ask is not usable.
func readAuthority(where string, document []byte, asked *requireJSON) (Authority, error) {
	material, err := root.NewTrustedRootFromJSON(document)
	if err != nil {
		return Authority{}, invalid(fmt.Sprintf("%s: %s", where, clean(err)), "a Sigstore trusted root, "+root.TrustedRootMediaType01, rerender)
	}
	if len(material.FulcioCertificateAuthorities()) == 0 {
		return Authority{}, invalid(where+": it lists no certificate authority", "at least one", rerender)
	}
	listed := Require{SCT: len(material.CTLogs()), Log: len(material.RekorLogs())}
	listed.Time = listed.Log + len(material.TimestampingAuthorities())
	require := Require{SCT: min(listed.SCT, 1), Log: min(listed.Log, 1), Time: 1}
	if asked != nil {
		for number, set := range map[*int]*int{&require.SCT: asked.SCT, &require.Log: asked.Log, &require.Time: asked.Time} {
			if set != nil {
				*number = *set
			}
		}
	}
	for _, n := range []struct {
		name        string
		want, there int
		source      string
	}{
		{"sct", require.SCT, listed.SCT, "logs of certificates"},
		{"log", require.Log, listed.Log, "logs"},
		{"time", require.Time, listed.Time, "logs and timestamp authorities"},
	} {
		if n.want < 0 || n.want > min(n.there, maxRequired) {
			return Authority{}, invalid(fmt.Sprintf("%s: it lists %d %s, and require.%s is %d", where, n.there, n.source, n.name, n.want),
				fmt.Sprintf("a number from 0 to %d", min(n.there, maxRequired)), rerender)
		}
	}
	return Authority{Material: material, Require: require}, nil
}
