package judge

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
)

// The formats of signatures, as verdicts name them.
const (
	formatAttachment = "attachment"
	formatBundle     = "bundle"
)

// publicKey verifies for a root of trust that is a list of public keys. Revoked
// keys are known to the diagnosis only.
type publicKey struct {
	root    string
	trusted []policy.Key
	revoked []policy.Key
	policy  *policy.Policy
}

func newPublicKey(p *policy.Policy, root policy.Root) *publicKey {
	v := &publicKey{root: root.Name, policy: p}
	for _, key := range root.PublicKey.Keys {
		if p.RevokedKey(key.Fingerprint) {
			v.revoked = append(v.revoked, key)
		} else {
			v.trusted = append(v.trusted, key)
		}
	}
	return v
}

func (v *publicKey) verify(ctx context.Context, set evidence.Set) (satisfied, bool) {
	if len(v.trusted) == 0 {
		return satisfied{}, false
	}
	if len(set.Attachments) > 0 && acceptAttachments(ctx, set, v.trusted) == nil {
		return satisfied{root: v.root, format: formatAttachment}, true
	}
	for _, b := range set.Bundles {
		if v.verifyBundle(b, set.Digest) == nil {
			return satisfied{root: v.root, format: formatBundle}, true
		}
	}
	return satisfied{}, false
}

// verifyBundle returns nil if a trusted key has signed this digest. The bundle's
// hint is not consulted: it proves nothing.
func (v *publicKey) verifyBundle(b evidence.Bundle, digest string) error {
	parsed, err := parseBundle(b)
	if err != nil {
		return err
	}
	for _, key := range v.trusted {
		if err = acceptBundle(parsed, digest, key); err == nil {
			return nil
		}
	}
	return err
}

func (v *publicKey) diagnose(ctx context.Context, set evidence.Set) []finding {
	var findings []finding
	for _, a := range set.Attachments {
		f := v.diagnoseAttachment(ctx, set, a)
		f.text = fmt.Sprintf("attachment %.12s, root %s: %s", a.ID(), v.root, f.text)
		findings = append(findings, f)
	}
	for _, b := range set.Bundles {
		f := v.diagnoseBundle(b, set.Digest)
		f.text = fmt.Sprintf("bundle %.12s, root %s: %s", b.ID(), v.root, f.text)
		findings = append(findings, f)
	}
	return findings
}

// keyOf finds the key for which signed returns true, and whether it is revoked.
func (v *publicKey) keyOf(signed func(policy.Key) bool) (key policy.Key, revoked, ok bool) {
	for _, key := range v.trusted {
		if signed(key) {
			return key, false, true
		}
	}
	for _, key := range v.revoked {
		if signed(key) {
			return key, true, true
		}
	}
	return policy.Key{}, false, false
}

func (v *publicKey) diagnoseAttachment(ctx context.Context, set evidence.Set, a evidence.Attachment) finding {
	signature, err := attachmentSignature(a)
	if err != nil {
		return finding{code.Malformed, err.Error()}
	}
	claim, claimErr := parsePayload(a.Payload)
	key, revoked, ok := v.keyOf(func(key policy.Key) bool { return signedPayload(key, a.Payload, signature) })
	switch {
	case !ok && claimErr != nil:
		return finding{code.Malformed, claimErr.Error()}
	case !ok:
		return finding{code.BadSignature, fmt.Sprintf("no key of the root has signed this payload, which names %s@%s", claim.repository, claim.digest)}
	case revoked:
		return finding{code.Revoked, "signed with the revoked key " + key.Fingerprint}
	case claimErr != nil:
		return finding{code.Malformed, "signed with a trusted key, but " + claimErr.Error()}
	case claim.digest != set.Digest:
		return finding{code.OtherImage, "a valid signature for digest " + claim.digest + ", not " + set.Digest}
	case claim.repository != set.Repository:
		return finding{code.OtherImage, "a valid signature for repository " + claim.repository + ", not " + set.Repository}
	case set.Manifest == nil:
		return finding{code.RegistryError, "the signed manifest " + set.Digest + " is not to be had"}
	}
	err = acceptAttachments(ctx, evidence.Set{Repository: set.Repository, Digest: set.Digest, Manifest: set.Manifest,
		Attachments: []evidence.Attachment{a}}, []policy.Key{key})
	return finding{code.Malformed, fmt.Sprintf("signed with a trusted key, but refused: %v", err)}
}

func (v *publicKey) diagnoseBundle(b evidence.Bundle, digest string) finding {
	parsed, err := parseBundle(b)
	if err != nil {
		return finding{code.Malformed, err.Error()}
	}
	statement, err := readStatement(parsed)
	if err != nil {
		return finding{code.Malformed, err.Error()}
	}
	if statement.predicateType != signPredicate {
		return finding{code.Unsigned, "an attestation of type " + statement.predicateType + " is no signature of the image"}
	}
	if statement.kind != statementType {
		return finding{code.Malformed, fmt.Sprintf("its statement is of type %.80q, not %s", statement.kind, statementType)}
	}
	if parsed.GetVerificationMaterial().GetPublicKey() == nil {
		return finding{code.BadSignature, "signed with a certificate, but the root asks for a key"}
	}
	key, revoked, ok := v.keyOf(func(key policy.Key) bool { return signedEnvelope(parsed, key) })
	switch {
	case !ok:
		return v.diagnoseHint(parsed.GetVerificationMaterial().GetPublicKey().GetHint())
	case revoked:
		return finding{code.Revoked, "signed with the revoked key " + key.Fingerprint}
	case statement.subject == "":
		return finding{code.Malformed, "signed with a trusted key, but not for exactly one subject with a sha256 digest"}
	case statement.subject != digest:
		return finding{code.OtherImage, "a valid signature for digest " + statement.subject + ", not " + digest}
	}
	return finding{code.Malformed, fmt.Sprintf("signed with a trusted key, but refused: %v", acceptBundle(parsed, digest, key))}
}

// diagnoseHint tells what the hint of a bundle that no key verifies claims.
func (v *publicKey) diagnoseHint(hint string) finding {
	raw, err := base64.StdEncoding.DecodeString(hint)
	fingerprint := "sha256:" + hex.EncodeToString(raw)
	for _, key := range v.trusted {
		if key.Fingerprint == fingerprint {
			return finding{code.Tampered, "it names the trusted key " + fingerprint + ", which has not signed this content"}
		}
	}
	switch {
	case v.policy.RevokedKey(fingerprint):
		// Not REVOKED: nothing proves that this key has signed it.
		return finding{code.BadSignature, "it names the revoked key " + fingerprint}
	case err == nil && len(raw) == 32:
		return finding{code.BadSignature, "it names the key " + fingerprint + ", which the root does not trust"}
	}
	return finding{code.BadSignature, "no key of the root has signed it; it names " + strings.ToValidUTF8(fmt.Sprintf("%.80q", hint), "")}
}
