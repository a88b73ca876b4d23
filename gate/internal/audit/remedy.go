package audit

import (
	"fmt"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
)

// remedy gives the one line of policy.yaml that would allow what is refused: a pin of the
// very manifest. It trusts nothing but the content that is there, while a scope would
// trust whatever comes under a name later. It is "" where no line of policy would do: the
// rule was never asked, because what runs could not be bound or is revoked, or because
// nobody knows the image's repository.
func remedy(v *verdict.Verdict) string {
	asked := v.Scope != "" || v.Code == code.NoScope
	if !asked || reference.CheckRepository(v.Repository) != nil || reference.CheckDigest(v.Manifest) != nil {
		return ""
	}
	return fmt.Sprintf("pinned: [%s@%s]", v.Repository, v.Manifest)
}
