package judge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// pki verifies for a root of trust in certificates of one's own authorities. sigstore-go's
// verifier wants one name of a kind that Fulcio writes, and knows of no time but the
// clock's where there is no timestamp: its steps are taken one by one here.
type pki struct {
	authority
	root string
	want policy.Name
}

// stamped is what sigstore-go needs to know to read timestamps.
type stamped struct {
	root.BaseTrustedMaterial
	authorities []root.TimestampingAuthority
}

// TimestampingAuthorities implements root.TrustedMaterial.
func (s *stamped) TimestampingAuthorities() []root.TimestampingAuthority { return s.authorities }

func newPKI(p *policy.Policy, r policy.Root) *pki {
	v := &pki{root: r.Name, want: r.PKI.Name, authority: authority{TrustedMaterial: &stamped{authorities: r.PKI.Timestamps}, takesChains: true}}
	for _, c := range r.PKI.Roots {
		ca := &root.FulcioCertificateAuthority{Root: c, Intermediates: r.PKI.Intermediates}
		v.issuers = append(v.issuers, &issuer{ca, p, r.PKI.CRLs})
	}
	return v
}

func (v *pki) verify(ctx context.Context, set *material) (satisfied, bool) {
	for c := range set.certified {
		if ctx.Err() != nil {
			break
		}
		if c.problem != nil || c.forImage(set) != nil || v.identity(c) != nil {
			continue // what costs least is asked first
		}
		end, problem := v.examine(c)
		if problem == nil {
			end, problem = v.further(ctx, set, c, end)
		}
		if problem == nil {
			return satisfied{root: v.root, format: c.format, expires: end}, true
		}
	}
	return satisfied{}, false
}

func (v *pki) identity(c *certified) *finding {
	names := namesOf(c.leaf)
	if slices.Contains(names, v.want) {
		return nil
	}
	return &finding{code.WrongIdentity, fmt.Sprintf("signed by somebody else: identity %s, expected %s %s", shown(names), v.want.Kind, v.want.Value)}
}

func (v *pki) diagnose(ctx context.Context, set *material) []finding {
	return diagnoseCertified(ctx, v.root, set, func(c *certified) finding {
		if _, problem := v.examine(c); problem != nil {
			return *problem
		}
		if problem := v.identity(c); problem != nil {
			return *problem
		}
		if problem := c.forImage(set); problem != nil {
			return *problem
		}
		if _, problem := v.further(ctx, set, c, time.Time{}); problem != nil {
			return *problem
		}
		return finding{code.Malformed, "signed by the right identity, but not asked in time"}
	})
}
