// Package containerspolicy gives a policy the form that the engine within CRI-O reads,
// containers-policy.json(5) and containers-registries.d(5), and puts it on a node.
//
// That engine (go.podman.io/image) reads signatures in the format attachment alone, on
// the manifest that it pulls, and knows no revocation. What it can't say is left to the
// gate, which judges at every start; no rule is weakened here: where the engine knows
// less, it refuses.
package containerspolicy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.podman.io/image/v5/signature"
	"go.yaml.in/yaml/v3"

	"countersign/gate/internal/policy"
)

// Rendered is what the engine reads.
type Rendered struct {
	Policy      []byte // containers-policy.json(5), keys inline
	RegistriesD []byte // containers-registries.d(5): where signatures lie
}

// requirement is one of containers-policy.json(5).
type requirement struct {
	Type          string    `json:"type"`
	KeyData       string    `json:"keyData,omitempty"`
	KeyDatas      []string  `json:"keyDatas,omitempty"`
	Fulcio        *fulcio   `json:"fulcio,omitempty"`
	PKI           *pki      `json:"pki,omitempty"`
	RekorKeyData  string    `json:"rekorPublicKeyData,omitempty"`
	RekorKeyDatas []string  `json:"rekorPublicKeyDatas,omitempty"`
	Identity      *identity `json:"signedIdentity,omitempty"`
}

type fulcio struct {
	CA      string `json:"caData"`
	Issuer  string `json:"oidcIssuer"`
	Subject string `json:"subjectEmail"`
}

type pki struct {
	Roots         string `json:"caRootsData"`
	Intermediates string `json:"caIntermediatesData,omitempty"`
	Email         string `json:"subjectEmail"`
}

type identity struct {
	Type string `json:"type"`
}

var (
	accept = []requirement{{Type: "insecureAcceptAnything"}}
	reject = []requirement{{Type: "reject"}}
)

// left is the repository of the canary that the engine lets pass: the gate alone is to
// refuse it, at create.
const left = policy.CanaryRegistry + "/countersign/canary"

const bySignature = "sigstoreSigned"

// attachments is the only format of signatures that the engine reads.
const attachments = "attachment"

// Form is how an engine is to have a policy.
type Form struct {
	// Lenient lets pass what asks for signatures, which the gate verifies at every start.
	// What is in no scope or rejected is still refused.
	Lenient bool
	// Tags are the names by tag under which a kubelet pulls what is pinned; nil where
	// nobody knows them. The gate decides about them by digest.
	Tags []string
}

// Render gives a policy, with its node's own pins, in the engine's form.
func Render(p *policy.Policy, form Form) (Rendered, error) {
	r := newRenderer(p)
	scopes := map[string][]requirement{}
	hosts := map[string]any{}
	for _, scope := range p.Scopes() {
		_, rule, _ := p.Match(scope)
		if scopes[scope] = r.rule(rule); form.Lenient && scopes[scope][0].Type == bySignature {
			scopes[scope] = accept
		}
		if host, _, _ := strings.Cut(scope, "/"); host != policy.CanaryRegistry {
			hosts[host] = map[string]any{"use-sigstore-attachments": true}
		}
	}
	r.pins(scopes, form.Tags)
	scopes[policy.CanaryRegistry] = []requirement{signed(requirement{KeyData: data([]byte(policy.CanaryKey))})}
	scopes[left] = accept

	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(map[string]any{"default": reject, "transports": map[string]any{"docker": scopes}})
	if err == nil {
		_, err = signature.NewPolicyFromBytes(content.Bytes()) // by the very library that is to read it
	}
	if err != nil {
		return Rendered{}, fmt.Errorf("the policy in the form of CRI-O's own engine: %w", err)
	}
	registries, err := yaml.Marshal(map[string]any{"docker": hosts})
	return Rendered{content.Bytes(), registries}, err
}

// Asks says whether the engine, a strict one, asks for signatures in a scope of the policy.
func Asks(p *policy.Policy, scope string) bool {
	_, rule, ok := p.Match(scope)
	return ok && newRenderer(p).rule(rule)[0].Type == bySignature
}

func newRenderer(p *policy.Policy) *renderer {
	r := &renderer{p, map[string]policy.Root{}}
	for _, root := range p.Roots() {
		r.roots[root.Name] = root
	}
	return r
}

type renderer struct {
	*policy.Policy
	roots map[string]policy.Root
}

// pins are accepted by their digest. A kubelet may pull them by a tag, of which the engine
// can't tell the digest beforehand. Where nobody knows these tags, and no scope has
// anything to say of such a repository, all of it is left to the gate, which starts
// nothing but the pin.
func (r *renderer) pins(scopes map[string][]requirement, tags []string) {
	for _, pin := range r.Pins() {
		repository, digest, _ := strings.Cut(pin, "@")
		if _, revoked := r.RevokedDigest(digest); revoked {
			scopes[pin] = reject
			continue
		}
		scopes[pin] = accept
		if _, _, ok := r.Match(repository); !ok && tags == nil {
			scopes[repository] = accept
		}
	}
	for _, tag := range tags {
		scopes[tag] = accept
	}
}

func (r *renderer) rule(rule policy.Rule) []requirement {
	if len(rule.Roots) == 0 {
		if rule.Kind == policy.Accept {
			return accept
		}
		return reject
	}
	judged := slices.DeleteFunc(slices.Clone(rule.Roots), func(name string) bool { return !r.judges(rule, r.roots[name]) })
	whole := (rule.Kind == policy.AllOf || len(judged) == len(rule.Roots)) && rule.Signature == "" &&
		(len(rule.Formats) == 0 || slices.Contains(rule.Formats, attachments))
	if len(judged) == 0 || !whole {
		return accept // what the gate judges at every start
	}
	var found []requirement
	var either []string
	for _, name := range judged {
		root := r.roots[name]
		if root.PublicKey == nil {
			found = append(found, signed(certified(root)))
			continue
		}
		keys := r.keys(root)
		if rule.Kind == policy.AllOf {
			if len(keys) == 0 {
				return reject
			}
			found = append(found, signed(byKeys(keys)))
			continue
		}
		either = append(either, keys...)
	}
	if len(either) > 0 {
		found = append(found, signed(byKeys(either)))
	}
	if len(found) == 0 {
		return reject // its keys are all revoked
	}
	return found
}

// judges says whether the engine judges signatures of a root as strictly as the gate.
func (r *renderer) judges(rule policy.Rule, root policy.Root) bool {
	switch {
	case root.PublicKey != nil:
		return true
	case rule.Kind == policy.AnyOf && len(rule.Roots) > 1:
		return false // it takes no certificate beside other roots
	case root.PKI != nil:
		return root.PKI.Name.Kind == policy.Email // for a DNS name it takes wildcards; it knows no URIs
	case root.Keyless != nil:
		return judgesFulcio(root.Keyless)
	}
	return false
}

// keys are those of a root that are not revoked.
func (r *renderer) keys(root policy.Root) []string {
	var found []string
	for _, key := range root.PublicKey.Keys {
		if !r.RevokedKey(key.Fingerprint) {
			found = append(found, data(key.PEM))
		}
	}
	return found
}

func byKeys(keys []string) requirement {
	if len(keys) == 1 {
		return requirement{KeyData: keys[0]}
	}
	return requirement{KeyDatas: keys}
}

// signed asks for a signature that counts for its repository, whatever the tag.
func signed(by requirement) requirement {
	by.Type, by.Identity = bySignature, &identity{"matchRepository"}
	return by
}

func data(pem []byte) string { return base64.StdEncoding.EncodeToString(pem) }
