package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"

	"countersign/gate/internal/policy"
	"countersign/gate/internal/prove"
)

// render gives the policy as `policy.render` writes it: the same bytes, so that one
// signature is good for both.
func (a *agent) render(ctx context.Context, spec map[string]any) (Policy, error) {
	resolved, err := a.resolve(ctx, spec)
	if err != nil {
		return Policy{}, err
	}
	document := resolved.(map[string]any)
	signed, err := typed[[]any](document, signatures)
	if err != nil {
		return Policy{}, err
	}
	delete(document, signatures)
	delete(document, selector)
	document["version"] = policy.Version
	tables := map[string]map[string]any{}
	for _, name := range []string{"roots", "scopes", "revoked"} {
		if tables[name], err = tableOf(document, name); err != nil {
			return Policy{}, err
		}
	}
	roots, scopes, revoked := tables["roots"], tables["scopes"], tables["revoked"]
	if _, taken := roots[policy.CanaryRoot]; taken {
		return Policy{}, fmt.Errorf("the root %s is reserved", policy.CanaryRoot)
	}
	for scope := range scopes {
		if scope == prove.Registry || strings.HasPrefix(scope, prove.Registry+"/") {
			return Policy{}, fmt.Errorf("the scope %s is reserved", prove.Registry)
		}
	}
	roots[policy.CanaryRoot] = map[string]any{"publicKey": map[string]any{"keys": []any{policy.CanaryKey}}}
	scopes[prove.Registry] = map[string]any{"anyOf": []any{policy.CanaryRoot}}
	for _, list := range []string{"keys", "certificates", "digests"} {
		if revoked[list] == nil {
			revoked[list] = []any{}
		}
	}
	if document["pinned"] == nil {
		document["pinned"] = []any{}
	}
	content, err := canonical(document)
	if err != nil {
		return Policy{}, err
	}
	var lines []string
	for _, one := range signed {
		text, ok := one.(string)
		if !ok {
			return Policy{}, fmt.Errorf("%s: one is not text", signatures)
		}
		lines = append(lines, strings.TrimSpace(text)+"\n")
	}
	return Policy{content, []byte(strings.Join(lines, ""))}, nil
}

// typed gives a member of a spec, or nothing where it is not there. One of another type is
// an error, although the CustomResourceDefinition should have refused it: to leave out what
// is revoked, or for which nodes a policy is, would loosen it.
func typed[T any](of map[string]any, name string) (found T, err error) {
	if of[name] == nil {
		return found, nil
	}
	found, ok := of[name].(T)
	if !ok {
		return found, fmt.Errorf("%s is of another type", name)
	}
	return found, nil
}

func tableOf(of map[string]any, name string) (map[string]any, error) {
	found, err := typed[map[string]any](of, name)
	if found == nil {
		found = map[string]any{}
		of[name] = found
	}
	return found, err
}

// from ends the name of a list by reference: keysFrom adds to keys.
const from = "From"

// resolve gives a copy of a spec in which what lists name is there.
func (a *agent) resolve(ctx context.Context, value any) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		copied := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			list, isList := v[name].([]any)
			if base, ok := strings.CutSuffix(name, from); ok && isList {
				have, err := typed[[]any](copied, base) // sorts before
				if err != nil {
					return nil, err
				}
				for _, each := range list {
					text, err := a.named(ctx, each)
					if err != nil {
						return nil, fmt.Errorf("%s: %w", name, err)
					}
					have = append(have, text)
				}
				copied[base] = have
				continue
			}
			inner, err := a.resolve(ctx, v[name])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			copied[name] = inner
		}
		return copied, nil
	case []any:
		copied := make([]any, 0, len(v))
		for _, each := range v {
			inner, err := a.resolve(ctx, each)
			if err != nil {
				return nil, err
			}
			copied = append(copied, inner)
		}
		return copied, nil
	}
	return value, nil
}

// objectName is what Kubernetes calls a DNS subdomain name: no path leads elsewhere by it.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// named reads what a reference names, in this agent's namespace. JSON, as trusted roots
// are, comes parsed.
func (a *agent) named(ctx context.Context, reference any) (any, error) {
	var wanted struct {
		ConfigMap, Secret string
		Key               string
	}
	content, err := json.Marshal(reference)
	if err == nil {
		err = json.Unmarshal(content, &wanted)
	}
	if err != nil || (wanted.ConfigMap == "") == (wanted.Secret == "") || wanted.Key == "" {
		return nil, errors.New("expected a configMap or a secret, and a key")
	}
	if !objectName.MatchString(wanted.ConfigMap + wanted.Secret) {
		return nil, fmt.Errorf("%.300q is not the name of an object", wanted.ConfigMap+wanted.Secret)
	}
	kind, name := "configmaps", wanted.ConfigMap
	var object struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if wanted.Secret != "" {
		kind, name = "secrets", wanted.Secret
	}
	if err := a.API.get(ctx, "/api/v1/namespaces/"+a.Namespace+"/"+kind+"/"+name, &object); err != nil {
		return nil, err
	}
	raw, ok := object.Data[wanted.Key]
	if !ok {
		return nil, fmt.Errorf("%s %s has no %s", kind, name, wanted.Key)
	}
	var text string
	if kind == "secrets" {
		var bytes []byte
		err = json.Unmarshal(raw, &bytes)
		text = string(bytes)
	} else {
		err = json.Unmarshal(raw, &text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, name, err)
	}
	var document map[string]any
	if json.Unmarshal([]byte(text), &document) == nil {
		return document, nil
	}
	return text, nil
}

// canonical gives JSON as Python's json.dumps(sort_keys=True, indent=2) does, with a
// newline at the end.
func canonical(document any) ([]byte, error) {
	var plain bytes.Buffer
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, r := range plain.String() {
		switch {
		case r < 0x7f:
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes(), nil
}
