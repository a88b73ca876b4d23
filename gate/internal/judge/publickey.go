package judge

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
)

// The formats of signatures, as verdicts name them.
const (
	formatAttachment = policy.FormatAttachment
	formatBundle     = policy.FormatBundle
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

func (v *publicKey) verify(ctx context.Context, set *material) (satisfied, bool) {
	if len(v.trusted) == 0 {
		return satisfied{}, false
	}
	if len(set.Attachments) > 0 && ctx.Err() == nil && acceptAttachments(ctx, set.Set, v.trusted) == nil {
		return satisfied{root: v.root, format: formatAttachment}, true
	}
	for _, b := range set.bundles(ctx) {
		if !v.verifyBundle(ctx, b, set) {
			continue
		}
		if end, problem := b.further(ctx, set); problem == nil {
			return satisfied{root: v.root, format: formatBundle, expires: end}, true
		}
	}
	return satisfied{}, false
}

// verifyBundle says whether a trusted key has signed this digest. The bundle's hint
// is not consulted: it proves nothing.
func (v *publicKey) verifyBundle(ctx context.Context, b *readBundle, set *material) bool {
	if b.bundle == nil || b.statement.about(set.kind, set.Digest) != nil {
		return false
	}
	for _, key := range v.trusted {
		if ctx.Err() == nil && acceptBundle(b.bundle, set.kind, set.Digest, key) == nil {
			return true
		}
	}
	return false
}

func (v *publicKey) diagnose(ctx context.Context, set *material) []finding {
	var findings []finding
	for _, a := range set.Attachments {
		if ctx.Err() != nil {
			return findings
		}
		f := v.diagnoseAttachment(ctx, set.Set, a)
		f.text = fmt.Sprintf("attachment %.12s, root %s: %s", a.ID(), v.root, f.text)
		findings = append(findings, f)
	}
	for _, b := range set.bundles(ctx) {
		if ctx.Err() != nil {
			return findings
		}
		f := v.diagnoseBundle(ctx, b, set)
		f.text = fmt.Sprintf("bundle %.12s, root %s: %s", b.id, v.root, f.text)
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

// otherHash finds the trusted key that has signed a payload over another hash than
// the one that the engine of attachments reads.
func (v *publicKey) otherHash(payload, signature []byte) (hash crypto.Hash, fingerprint string, ok bool) {
	for _, hash := range []crypto.Hash{crypto.SHA384, crypto.SHA512} {
		for _, key := range v.trusted {
			if signedPayload(key, payload, signature, hash) {
				return hash, key.Fingerprint, true
			}
		}
	}
	return 0, "", false
}

func (v *publicKey) diagnoseAttachment(ctx context.Context, set evidence.Set, a evidence.Attachment) finding {
	signature, err := attachmentSignature(a)
	if err != nil {
		return finding{code.Malformed, err.Error()}
	}
	claim, claimErr := parsePayload(a.Payload)
	key, revoked, ok := v.keyOf(func(key policy.Key) bool { return signedPayload(key, a.Payload, signature, crypto.SHA256) })
	switch {
	case !ok && claimErr != nil:
		return finding{code.Malformed, claimErr.Error()}
	case !ok:
		if hash, key, ok := v.otherHash(a.Payload, signature); ok {
			return finding{code.Malformed, fmt.Sprintf("signed with the trusted key %s over %s, and attachments are read over SHA-256 only", key, hash)}
		}
		return finding{code.BadSignature, fmt.Sprintf("it holds under no key of the root; it names %s@%s", claim.repository, claim.digest)}
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

func (v *publicKey) diagnoseBundle(ctx context.Context, b *readBundle, set *material) finding {
	statement, parsed, digest := b.statement, b.bundle, set.Digest
	switch {
	case b.err != nil:
		return finding{code.Malformed, b.err.Error()}
	case statement.predicateType != set.kind:
		return finding{code.Unsigned, fmt.Sprintf("an attestation of type %.200s is not a signature of the image", statement.predicateType)}
	case statement.typed() != nil:
		return finding{code.Malformed, statement.typed().Error()}
	case parsed.GetVerificationMaterial().GetPublicKey() == nil:
		return finding{code.BadSignature, "signed with a certificate, but the root asks for a key"}
	}
	key, revoked, ok := v.keyOf(func(key policy.Key) bool { return signedEnvelope(parsed, key) })
	switch {
	case !ok:
		return v.diagnoseHint(parsed.GetVerificationMaterial().GetPublicKey().GetHint())
	case revoked:
		return finding{code.Revoked, "signed with the revoked key " + key.Fingerprint}
	}
	if err := statement.wellFormed(); err != nil {
		return finding{code.Malformed, "signed with a trusted key, but " + err.Error()}
	}
	if !slices.Contains(statement.subjects, digest) {
		return finding{code.OtherImage, "a valid " + set.what() + " for digest " + statement.first() + ", not " + digest}
	}
	if err := acceptBundle(parsed, set.kind, digest, key); err != nil {
		return finding{code.Malformed, fmt.Sprintf("signed with a trusted key, but refused: %v", err)}
	}
	if _, problem := b.further(ctx, set); problem != nil {
		return *problem
	}
	return finding{code.Malformed, "signed with a trusted key, but not asked in time"}
}

// diagnoseHint tells what the hint of a bundle that no key verifies claims.
func (v *publicKey) diagnoseHint(hint string) finding {
	raw, err := base64.StdEncoding.DecodeString(hint)
	fingerprint := "sha256:" + hex.EncodeToString(raw)
	for _, key := range v.trusted {
		if key.Fingerprint == fingerprint {
			return finding{code.Tampered, "it names the trusted key " + fingerprint + " and does not hold under it"}
		}
	}
	switch {
	case v.policy.RevokedKey(fingerprint):
		// Not REVOKED: nothing proves that this key has signed it.
		return finding{code.BadSignature, "it names the revoked key " + fingerprint}
	case err == nil && len(raw) == 32:
		return finding{code.BadSignature, "it names the key " + fingerprint + ", which the root does not trust"}
	}
	return finding{code.BadSignature, "it holds under no key of the root; it names " + strings.ToValidUTF8(fmt.Sprintf("%.80q", hint), "")}
}
