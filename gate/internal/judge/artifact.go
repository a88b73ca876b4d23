package judge

import (
	"errors"
	"fmt"
	"time"

	"countersign/gate/internal/policy"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	sigstore "github.com/sigstore/sigstore/pkg/signature"
)

// VerifyArtifact returns nil if a bundle is a signature, by the one root of the policy,
// over a file or a statement about it. It is not about images: any bundle and any
// predicate will do. artifact makes sigstore-go's option anew for each attempt. With
// keys, trusted (which may be nil) has the logs and timestamps that are asked for.
func VerifyArtifact(document []byte, p *policy.Policy, trusted *policy.Authority, artifact func() verify.ArtifactPolicyOption) error {
	message, err := decodeMessage(document)
	if err != nil {
		return err
	}
	entity, err := bundle.NewBundle(message)
	if err != nil {
		return fmt.Errorf("it is not a Sigstore bundle: %w", err)
	}
	roots := p.Roots()
	if len(roots) != 1 {
		return fmt.Errorf("%d roots of trust, not one", len(roots))
	}
	if roots[0].PublicKey != nil {
		return signedByKey(entity, roots[0].PublicKey.Keys, trusted, artifact)
	}
	v, err := newKeyless(p, roots[0])
	if err != nil {
		return err
	}
	c := (&certified{format: formatBundle, entity: entity}).withLeaf()
	if c.problem != nil {
		return errors.New(c.problem.text)
	}
	if wrong := v.identity(c); wrong != nil {
		return errors.New(wrong.text)
	}
	var failures []error
	for _, a := range v.authorities {
		_, err := a.engine.Verify(entity, verify.NewPolicy(artifact(), anybody))
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// signedByKey verifies with each key, and each hash that signers use with it.
func signedByKey(entity *bundle.Bundle, keys []policy.Key, trusted *policy.Authority, artifact func() verify.ArtifactPolicyOption) error {
	if len(keys) == 0 {
		return errors.New("no key")
	}
	var failures []error
	for _, key := range keys {
		verifiers, err := dsseVerifiers(key.Public)
		if err != nil {
			return err
		}
		for _, v := range verifiers {
			err := signedByVerifier(entity, v, trusted, artifact())
			if err == nil {
				return nil
			}
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func signedByVerifier(entity *bundle.Bundle, v sigstore.Verifier, trusted *policy.Authority, artifact verify.ArtifactPolicyOption) error {
	var material root.TrustedMaterial = root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
	})
	asked := []verify.VerifierOption{verify.WithNoObserverTimestamps()}
	if trusted != nil {
		material = root.TrustedMaterialCollection{trusted.Material, material}
		asked = options(policy.Require{Log: trusted.Require.Log, Time: trusted.Require.Time}) // a key has no SCT
	}
	engine, err := verify.NewVerifier(material, asked...)
	if err != nil {
		return err
	}
	_, err = engine.Verify(entity, verify.NewPolicy(artifact, verify.WithKey()))
	return err
}
