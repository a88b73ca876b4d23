package bind

import (
	"errors"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

// A decoder calls itself for each level: what is nested ten thousand deep would take
// megabytes of stack, for each that is asked for at once.
func TestADocumentIsNestedSoDeepAtMost(t *testing.T) {
	nested := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
	dgst := "sha256:" + strings.Repeat("a", 64)
	for name, levels := range map[string]int{"some levels": 32, "many levels": 9000} {
		t.Run(name, func(t *testing.T) {
			_, manifestErr := ParseDocument(dgst, []byte(`{"config":{"digest":"`+dgst+`"},"layers":[],"x":`+nested(levels)+`}`))
			_, configErr := ParseDiffIDs(dgst, []byte(`{"rootfs":{"type":"layers","diff_ids":["`+dgst+`"]},"x":`+nested(levels)+`}`))
			for what, err := range map[string]error{"manifest": manifestErr, "config": configErr} {
				var refusal *code.Refusal
				if deep := errors.As(err, &refusal) && refusal.Code == code.Malformed && strings.Contains(refusal.Found, "nested too deep"); deep != (levels > 64) || !deep && err != nil {
					t.Errorf("%s: got %v", what, err)
				}
			}
		})
	}
}
