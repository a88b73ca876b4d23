package judge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// keyless verifies for a root of trust in certificates of a Sigstore.
type keyless struct {
	root        string
	want        *policy.Keyless
	authorities []*sigstoreAuthority
}

// sigstoreAuthority is a trusted root with sigstore-go's verifier for it, which decides.
type sigstoreAuthority struct {
	authority
	engine *verify.Verifier
	lean   *verify.Verifier // for attestations
}

func newKeyless(p *policy.Policy, r policy.Root) (*keyless, error) {
	v := &keyless{root: r.Name, want: r.Keyless}
	for _, trusted := range r.Keyless.Authorities {
		a := &sigstoreAuthority{authority: authority{TrustedMaterial: trusted.Material, require: trusted.Require}}
		for _, ca := range trusted.Material.FulcioCertificateAuthorities() {
			fulcio, ok := ca.(*root.FulcioCertificateAuthority)
			if !ok {
				return nil, fmt.Errorf("root %q: an authority of type %T", r.Name, ca)
			}
			a.issuers = append(a.issuers, &issuer{FulcioCertificateAuthority: fulcio, policy: p})
		}
		var err error
		if a.engine, err = verify.NewVerifier(a, options(trusted.Require)...); err != nil {
			return nil, fmt.Errorf("root %q: %w", r.Name, err)
		}
		if a.lean, err = verify.NewVerifier(a, append(reading(""), options(trusted.Require)...)...); err != nil {
			return nil, fmt.Errorf("root %q: %w", r.Name, err)
		}
		v.authorities = append(v.authorities, a)
	}
	return v, nil
}

func options(require policy.Require) []verify.VerifierOption {
	var all []verify.VerifierOption
	if require.SCT > 0 {
		all = append(all, verify.WithSignedCertificateTimestamps(require.SCT))
	}
	if require.Log > 0 {
		all = append(all, verify.WithTransparencyLog(require.Log))
	}
	if require.Time > 0 {
		return append(all, verify.WithObserverTimestamps(require.Time))
	}
	return append(all, verify.WithCurrentTime())
}

func (v *keyless) verify(ctx context.Context, set *material) (satisfied, bool) {
	for c := range set.certified {
		if ctx.Err() != nil {
			break
		}
		if c.problem != nil || c.forImage(set) != nil || v.identity(c) != nil {
			continue // what costs least is asked first
		}
		for _, a := range v.authorities {
			if a.accept(c, set.Digest) == nil {
				if end, problem := a.further(ctx, set, c, a.expires(c)); problem == nil {
					return satisfied{root: v.root, format: c.format, expires: end}, true
				}
			}
		}
	}
	return satisfied{}, false
}

// anybody: who has signed is compared by keyless.identity, for sigstore-go knows no globs.
var anybody = verify.WithoutIdentitiesUnsafe()

// accept returns nil if sigstore-go finds the signature good, by whomever it is.
func (a *sigstoreAuthority) accept(c *certified, digest string) error {
	artifact, err := c.artifact(digest)
	if err != nil {
		return err
	}
	engine := a.engine
	if c.kind != signPredicate {
		engine = a.lean
	}
	result, err := engine.Verify(c.entity, verify.NewPolicy(artifact, anybody))
	if err != nil || c.format == formatAttachment {
		return err
	}
	return statementOf(result.Statement).about(c.kind, digest)
}

// expires tells when a judgement by the clock must be made anew; zero for one that
// rests on trusted times.
func (a *sigstoreAuthority) expires(c *certified) time.Time {
	if a.require.Time > 0 {
		return time.Time{}
	}
	chains, err := a.chainAt(c, now())
	if err != nil {
		return now()
	}
	return a.end(chains[0], true)
}

// identity says what is wrong with who has signed. A certificate with more than one name
// is nobody's: which of them the issuer has proven is not in it.
func (v *keyless) identity(c *certified) *finding {
	claims, err := certificate.ParseExtensions(c.leaf.Extensions)
	if err != nil {
		return &finding{code.Malformed, "its certificate's claims cannot be read: " + err.Error()}
	}
	names := namesOf(c.leaf)
	var wrong []string
	if claims.Issuer != v.want.Issuer {
		wrong = append(wrong, fmt.Sprintf("issuer %.200q, expected %q", claims.Issuer, v.want.Issuer))
	}
	if len(names) != 1 || !v.want.Subject.Matches(names[0]) {
		wrong = append(wrong, fmt.Sprintf("identity %s, expected %s", shown(names), v.want.Subject))
	}
	for _, name := range slices.Sorted(maps.Keys(v.want.Claims)) {
		if found := policy.Claims[name](claims); found != v.want.Claims[name] {
			wrong = append(wrong, fmt.Sprintf("%s %.200q, expected %q", name, found, v.want.Claims[name]))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &finding{code.WrongIdentity, "signed by somebody else: " + strings.Join(wrong, "; ")}
}

func (v *keyless) diagnose(ctx context.Context, set *material) []finding {
	return diagnoseCertified(ctx, v.root, set, func(c *certified) finding {
		var furthest finding
		for _, a := range v.authorities {
			if f := v.explain(ctx, a, c, set); furthest.code == "" || progress[f.code] > progress[furthest.code] {
				furthest = f
			}
		}
		return furthest
	})
}

func (v *keyless) explain(ctx context.Context, a *sigstoreAuthority, c *certified, set *material) finding {
	if _, problem := a.examine(c); problem != nil {
		return *problem
	}
	if problem := v.identity(c); problem != nil {
		return *problem
	}
	if problem := c.forImage(set); problem != nil {
		return *problem
	}
	err := a.accept(c, set.Digest)
	if err == nil {
		if _, problem := a.further(ctx, set, c, time.Time{}); problem != nil {
			return *problem
		}
		err = errors.New("not asked in time")
	}
	return finding{code.Malformed, fmt.Sprintf("signed by the right identity, but refused: %v", err)}
}

// diagnoseCertified has each signature of the set explained.
func diagnoseCertified(ctx context.Context, root string, set *material, explain func(*certified) finding) []finding {
	var findings []finding
	for c := range set.certified {
		if ctx.Err() != nil {
			break
		}
		f := explain(c)
		f.text = fmt.Sprintf("%s %.12s, root %s: %s", c.format, c.id, root, f.text)
		findings = append(findings, f)
	}
	return findings
}
