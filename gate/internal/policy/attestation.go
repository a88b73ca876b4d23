package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/condition"
)

// The formats of signatures that a rule can name.
const (
	FormatAttachment = "attachment"
	FormatBundle     = "bundle"
	FormatNotation   = "notation"
)

var formatsKnown = []string{FormatAttachment, FormatBundle, FormatNotation}

// SignPredicate is the predicate type of bundles that sign an image (cosign).
const SignPredicate = "https://sigstore.dev/cosign/sign/v1"

// Attestation is what a rule asks for beside signatures: an in-toto statement about the
// image, by whom, how old, and what has to be true of it.
type Attestation struct {
	Type   string        // predicate type, exactly
	By     []string      // names of roots, of which any one is enough
	Where  string        // the condition as written; "" for none
	MaxAge time.Duration // since its trusted time; 0 for any

	condition *condition.Condition // nil for none
}

// Equal says whether two ask for the same.
func (a Attestation) Equal(b Attestation) bool {
	return a.Type == b.Type && a.Where == b.Where && a.MaxAge == b.MaxAge && slices.Equal(a.By, b.By)
}

// Condition is what has to be true of the content; nil for nothing.
func (a Attestation) Condition() *condition.Condition { return a.condition }

// String says what is asked for, for a sentence.
func (a Attestation) String() string {
	text := fmt.Sprintf("an attestation of type %s by %s", a.Type, strings.Join(a.By, " or "))
	if a.MaxAge > 0 {
		text += fmt.Sprintf(", at most %s old", a.MaxAge)
	}
	if a.Where != "" {
		text += fmt.Sprintf(", where %q", a.Where)
	}
	return text
}

type attestationJSON struct {
	Type   string   `json:"type"`
	By     []string `json:"by"`
	Where  *string  `json:"where"`
	MaxAge *string  `json:"maxAge"`
}

const (
	maxAttestations = 16  // of one rule
	maxType         = 512 // bytes
	maxMaxAge       = 100 * 366 * 24 * time.Hour
)

// Types lists the predicate types that a rule reads beside those of signatures, each once.
func (r Rule) Types() []string {
	types := r.attested()
	if r.Signature != "" {
		types = append(types, r.Signature)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// Reads says whether signatures of that format count.
func (r Rule) Reads(format string) bool {
	return len(r.Formats) == 0 || slices.Contains(r.Formats, format)
}

func (r Rule) attested() []string {
	var types []string
	for _, a := range r.Attestations {
		types = append(types, a.Type)
	}
	return types
}

// readFurther reads what a rule says beside its roots.
func readFurther(rule *Rule, where string, r ruleJSON, roots map[string]Root) error {
	further := r.Formats != nil || r.Signature != nil || r.Attestations != nil
	if further && len(rule.Roots) == 0 {
		return invalid(where+": formats, signature or attestations beside "+string(rule.Kind), "them beside anyOf or allOf", rerender)
	}
	if r.Formats != nil {
		if err := checkFormats(where+".formats", r.Formats); err != nil {
			return err
		}
		rule.Formats = r.Formats
	}
	if r.Signature != nil {
		if err := checkType(where+".signature", *r.Signature); err != nil {
			return err
		}
		rule.Signature = *r.Signature
	}
	if n := len(r.Attestations); n > maxAttestations {
		return invalid(fmt.Sprintf("%s.attestations: %d", where, n), fmt.Sprintf("at most %d", maxAttestations), rerender)
	}
	for i, document := range r.Attestations {
		a, err := readAttestation(fmt.Sprintf("%s.attestations[%d]", where, i), document, roots)
		if err != nil {
			return err
		}
		rule.Attestations = append(rule.Attestations, a)
	}
	return nil
}

func checkFormats(where string, formats []string) error {
	for i, format := range formats {
		if !slices.Contains(formatsKnown, format) || slices.Contains(formats[:i], format) {
			return invalid(fmt.Sprintf("%s: %q", where, format), strings.Join(formatsKnown, " or ")+", each once", rerender)
		}
	}
	if len(formats) == 0 {
		return invalid(where+": empty", "at least one format", rerender)
	}
	return nil
}

func checkType(where, predicate string) error {
	const expected = "a predicate type in full, such as https://slsa.dev/provenance/v1"
	switch {
	case predicate == SignPredicate:
		return invalid(fmt.Sprintf("%s: %q is the type of signatures", where, predicate), expected, rerender)
	case len(predicate) > maxType, !strings.ContainsAny(predicate, ":/"),
		strings.ContainsFunc(predicate, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return invalid(fmt.Sprintf("%s: %.200q", where, predicate), expected, rerender)
	}
	return nil
}

func readAttestation(where string, document attestationJSON, roots map[string]Root) (Attestation, error) {
	a := Attestation{Type: document.Type, By: document.By}
	if err := checkType(where+".type", a.Type); err != nil {
		return a, err
	}
	if err := checkRootNames(where+".by", AnyOf, a.By, roots); err != nil {
		return a, err
	}
	for _, name := range a.By {
		if roots[name].Notation != nil {
			return a, invalid(fmt.Sprintf("%s.by: %q is a root of the Notary Project, which signs images and no attestations", where, name), "a root publicKey, keyless or pki", rerender)
		}
	}
	if document.MaxAge != nil {
		age, err := time.ParseDuration(*document.MaxAge)
		if err != nil || age <= 0 || age > maxMaxAge {
			return a, invalid(fmt.Sprintf("%s.maxAge: %.80q", where, *document.MaxAge), "a duration such as 720h, above zero", rerender)
		}
		a.MaxAge = age
	}
	if document.Where != nil {
		var err error
		if a.condition, err = condition.Compile(*document.Where); err != nil {
			return a, invalid(fmt.Sprintf("%s.where: %v", where, err),
				"an expression in CEL over predicate, predicateType, subject and image that is true or false", rerender)
		}
		a.Where = *document.Where
	}
	return a, nil
}
