package judge

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/signature"
	chains "github.com/notaryproject/notation-core-go/x509"
	notationgo "github.com/notaryproject/notation-go"
	notationverifier "github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/notaryproject/tspclient-go"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const formatNotation = policy.FormatNotation

// notation verifies for a root of trust of the Notary Project. notation-go decides, at its
// level "strict"; its trust store is in memory, and what is revoked it asks of the policy.
type notation struct {
	root     string
	trust    *policy.Notation
	standing *standing
	engine   notationgo.Verifier
}

// GetCertificates implements truststore.X509TrustStore.
func (v *notation) GetCertificates(_ context.Context, store truststore.Type, _ string) ([]*x509.Certificate, error) {
	return map[truststore.Type][]*x509.Certificate{truststore.TypeCA: v.trust.Roots,
		truststore.TypeSigningAuthority: v.trust.SigningAuthorities, truststore.TypeTSA: v.trust.TimestampRoots}[store], nil
}

var _ revocation.Validator = (*standing)(nil)

func newNotation(p *policy.Policy, r policy.Root) (*notation, error) {
	v := &notation{root: r.Name, trust: r.Notation, standing: &standing{p, r.Notation.CRLs}}
	statement := trustpolicy.TrustPolicy{Name: "countersign", RegistryScopes: []string{"*"}, TrustedIdentities: v.asked(),
		SignatureVerification: trustpolicy.SignatureVerification{VerificationLevel: trustpolicy.LevelStrict.Name, VerifyTimestamp: trustpolicy.OptionAfterCertExpiry}}
	for _, store := range truststore.Types {
		if certificates, err := v.GetCertificates(context.Background(), store, ""); err == nil && len(certificates) > 0 {
			statement.TrustStores = append(statement.TrustStores, string(store)+":root")
		}
	}
	document := &trustpolicy.Document{Version: "1.0", TrustPolicies: []trustpolicy.TrustPolicy{statement}}
	var err error
	v.engine, err = notationverifier.NewWithOptions(document, v, nil, notationverifier.VerifierOptions{
		RevocationCodeSigningValidator: v.standing, RevocationTimestampingValidator: v.standing})
	return v, err
}

// asked are the identities as notation-go takes them. It wants ST in each, which many
// countries don't have: then it is asked for none, and those of the policy are asked for
// by identity alone, as they are in any case.
func (v *notation) asked() []string {
	var all []string
	for _, identity := range v.trust.Identities {
		if !identity.InSpec() {
			return []string{"*"}
		}
		all = append(all, identity.Text)
	}
	return all
}

func (v *notation) verify(ctx context.Context, set *material) (satisfied, bool) {
	for _, raw := range set.Envelopes {
		if ctx.Err() != nil {
			break
		}
		e := set.envelope(raw)
		if e.err != nil || e.forImage(set) != nil || v.identity(e.chain[0]) != nil {
			continue // what costs least is asked first
		}
		if end, problem := v.examine(ctx, e, set); problem == nil {
			return satisfied{root: v.root, format: formatNotation, expires: end}, true
		}
	}
	return satisfied{}, false
}

func (v *notation) diagnose(ctx context.Context, set *material) []finding {
	var findings []finding
	for _, raw := range set.Envelopes {
		if ctx.Err() != nil {
			break
		}
		e := set.envelope(raw)
		f := finding{code.Malformed, "signed by the right identity, but not asked in time"}
		if e.err != nil {
			f.text = e.err.Error()
		} else if _, problem := v.examine(ctx, e, set); problem != nil {
			f = *problem
		}
		f.text = fmt.Sprintf("notation %.12s, root %s: %s", raw.ID(), v.root, f.text)
		findings = append(findings, f)
	}
	return findings
}

// identity says what is wrong if a signer is nobody that the root names.
func (v *notation) identity(leaf *x509.Certificate) *finding {
	var wanted []string
	for _, identity := range v.trust.Identities {
		if identity.Matches(leaf) {
			return nil
		}
		wanted = append(wanted, identity.Text)
	}
	return &finding{code.WrongIdentity, fmt.Sprintf("signed by somebody else: subject %s, expected %s", leaf.Subject, strings.Join(wanted, " or "))}
}

func (e *readEnvelope) forImage(set *material) *finding {
	if e.target.Digest.String() != set.Digest {
		return &finding{code.OtherImage, fmt.Sprintf("a valid signature for digest %s, not %s", e.target.Digest, set.Digest)}
	}
	return nil
}

// examine has notation-go verify the envelope for the image of the set. It gives the end of
// the judgement (zero: none), or what is wrong.
func (v *notation) examine(ctx context.Context, e *readEnvelope, set *material) (end time.Time, problem *finding) {
	noted := &report{}
	outcome, err := v.engine.Verify(context.WithValue(ctx, reportKey{}, noted), e.image(set), e.Raw, notationgo.VerifierVerifyOptions{
		ArtifactReference: set.Repository + "@" + set.Digest, SignatureMediaType: e.MediaType})
	if err != nil {
		return end, v.explain(ctx, e, set, outcome, noted, err)
	}
	signer := outcome.EnvelopeContent.SignerInfo
	// The certificate that notation-go has read counts, and no other that the bytes may hold.
	if problem := v.identity(signer.CertificateChain[0]); problem != nil {
		return end, problem
	}
	for _, attribute := range signer.SignedAttributes.ExtendedAttributes {
		// notation-go leaves these to a plugin, and without one to nobody.
		if attribute.Critical {
			return end, &finding{code.BadSignature, fmt.Sprintf("it has a critical attribute that this gate does not know: %.80v", attribute.Key)}
		}
	}
	end = earliest(v.standing.until(signer.CertificateChain), signer.SignedAttributes.Expiry)
	for _, c := range signer.CertificateChain {
		if now().Before(c.NotAfter) {
			end = earliest(end, c.NotAfter)
		}
	}
	return end, nil
}

// image describes the image as the envelope must. Its digest is what counts: a node does
// not know under which type the registry had it, and takes what was signed.
func (e *readEnvelope) image(set *material) ocispec.Descriptor {
	image := ocispec.Descriptor{MediaType: e.target.MediaType, Size: e.target.Size, Digest: digest.Digest(set.Digest)}
	if set.Manifest != nil {
		image.Size = int64(len(set.Manifest))
	}
	return image
}

// explain says what notation-go's refusal means. It cannot allow anything.
func (v *notation) explain(ctx context.Context, e *readEnvelope, set *material, outcome *notationgo.VerificationOutcome, noted *report, err error) *finding {
	switch failed := failedStep(outcome); {
	case failed == nil && e.forImage(set) != nil:
		return e.forImage(set)
	case failed == nil && outcome != nil && outcome.EnvelopeContent != nil && e.image(set).Digest == e.target.Digest:
		return &finding{code.BadSignature, "it is not accepted: " + err.Error()}
	case failed == nil:
		return &finding{code.Malformed, "it cannot be verified: " + err.Error()}
	case failed.Type == trustpolicy.TypeIntegrity:
		return v.broken(e, failed.Error)
	case failed.Type == trustpolicy.TypeAuthenticity:
		if v.trusts(e) && v.identity(e.chain[0]) != nil {
			return v.identity(e.chain[0])
		}
		return &finding{code.UntrustedChain, fmt.Sprintf("its certificate (%s, issued by %s) leads to no trusted authority: %v", e.chain[0].Subject, e.chain[0].Issuer, err)}
	case noted.err != nil:
		return revocationProblem(noted.err)
	case failed.Type == trustpolicy.TypeAuthenticTimestamp:
		return v.untimely(ctx, e, outcome.EnvelopeContent.SignerInfo, err)
	case failed.Type == trustpolicy.TypeExpiry:
		return &finding{code.Expired, err.Error()}
	}
	return &finding{code.BadSignature, "it is not accepted: " + err.Error()}
}

// failedStep gives the step that notation-go refused at, or nil.
func failedStep(outcome *notationgo.VerificationOutcome) *notationgo.ValidationResult {
	if outcome == nil {
		return nil
	}
	for _, step := range outcome.VerificationResults {
		if step.Error != nil {
			return step
		}
	}
	return nil
}

// trusts says whether the envelope brings a certificate of a trusted authority.
func (v *notation) trusts(e *readEnvelope) bool {
	return slices.ContainsFunc(slices.Concat(v.trust.Roots, v.trust.SigningAuthorities), func(trusted *x509.Certificate) bool {
		return slices.ContainsFunc(e.chain, trusted.Equal)
	})
}

// broken says what is wrong with an envelope that does not hold in itself.
func (v *notation) broken(e *readEnvelope, err error) *finding {
	if invalid := chains.ValidateCodeSigningCertChain(e.chain, nil); invalid != nil {
		return &finding{code.UntrustedChain, fmt.Sprintf("its certificates are not a chain from a signer of code to a root: %v", invalid)}
	}
	var integrity *signature.SignatureIntegrityError
	switch {
	case !errors.As(err, &integrity):
		return &finding{code.Malformed, err.Error()}
	case v.trusts(e):
		return &finding{code.Tampered, "its certificate is of a trusted authority, and it does not hold under it: " + err.Error()}
	}
	return &finding{code.BadSignature, "it does not hold under its own certificate: " + err.Error()}
}

func revocationProblem(err error) *finding {
	switch {
	case errors.Is(err, errRevoked):
		return &finding{code.Revoked, err.Error()}
	case errors.Is(err, errStaleCRL):
		return &finding{code.Expired, err.Error()}
	}
	return &finding{code.UntrustedChain, err.Error()}
}

// untimely says why a signature is of no time at which its certificates were valid.
func (v *notation) untimely(ctx context.Context, e *readEnvelope, signer signature.SignerInfo, err error) *finding {
	expired := &finding{code.Expired, err.Error()}
	if signer.SignedAttributes.SigningScheme != signature.SigningSchemeX509 || len(signer.UnsignedAttributes.TimestampSignature) == 0 {
		return expired
	}
	if len(v.trust.TimestampRoots) == 0 {
		expired.text += "; its timestamp does not count: the root has no timestampRoots"
		return expired
	}
	if at, trusted := v.timestamp(ctx, signer); trusted && !slices.ContainsFunc(e.chain, func(c *x509.Certificate) bool {
		return !at.BoundedAfter(c.NotBefore) || !at.BoundedBefore(c.NotAfter)
	}) {
		return &finding{code.NoTrustedTime, err.Error()}
	} else if trusted {
		return expired
	}
	return &finding{code.NoTrustedTime, "its certificates are out of time, and its timestamp is of no trusted authority: " + err.Error()}
}

// timestamp reads the time that a trusted authority has put to the signature. For the
// diagnosis only.
func (v *notation) timestamp(ctx context.Context, signer signature.SignerInfo) (at *tspclient.Timestamp, trusted bool) {
	token, err := tspclient.ParseSignedToken(signer.UnsignedAttributes.TimestampSignature)
	if err != nil {
		return nil, false
	}
	info, err := token.Info()
	if err != nil {
		return nil, false
	}
	if at, err = info.Validate(signer.Signature); err != nil {
		return nil, false
	}
	pool := x509.NewCertPool()
	for _, c := range v.trust.TimestampRoots {
		pool.AddCert(c)
	}
	_, err = token.Verify(ctx, x509.VerifyOptions{CurrentTime: at.Value, Roots: pool})
	return at, err == nil
}
