package judge

import (
	"context"
	"fmt"
	"time"

	"countersign/gate/internal/policy"
)

// satisfied tells which root was satisfied, by a signature of which format, and
// until when that holds.
type satisfied struct {
	root    string
	format  string
	digest  string
	expires time.Time // zero: no end

	attestation string // its predicate type, if that is what was asked for
}

// verifier decides for one root of trust. There is one file for each kind.
type verifier interface {
	// verify says whether a signature in the set satisfies the root.
	verify(ctx context.Context, set *material) (satisfied, bool)
	// diagnose says of every signature in the set why it does not. It is asked
	// only after verify has refused.
	diagnose(ctx context.Context, set *material) []finding
}

// newVerifier makes the verifier for a root; another kind is another case here.
func newVerifier(p *policy.Policy, root policy.Root) (verifier, error) {
	switch {
	case root.PublicKey != nil:
		return newPublicKey(p, root), nil
	case root.Keyless != nil:
		return newKeyless(p, root)
	case root.PKI != nil:
		return newPKI(p, root), nil
	case root.Notation != nil:
		return newNotation(p, root)
	}
	return nil, fmt.Errorf("root %q is of a kind that this gate cannot verify", root.Name)
}

// verifiers are those of all roots of a policy, by name.
type verifiers struct {
	policy *policy.Policy
	byRoot map[string]verifier
}

// verifiers gives what verifies for a policy: made when it is first asked for, not for
// each verdict.
func (j *Judge) verifiers(p *policy.Policy) (map[string]verifier, error) {
	if ready := j.ready.Load(); ready != nil && ready.policy == p {
		return ready.byRoot, nil
	}
	made := &verifiers{policy: p, byRoot: map[string]verifier{}}
	for _, root := range p.Roots() {
		v, err := newVerifier(p, root)
		if err != nil {
			return nil, err
		}
		made.byRoot[root.Name] = v
	}
	j.ready.Store(made)
	return made.byRoot, nil
}
