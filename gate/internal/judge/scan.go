package judge

import "countersign/gate/internal/bounded"

// What a document of one signature holds at most. A keyless bundle with an inclusion
// proof and timestamps has some two hundred tokens.
const (
	maxTokens = 4096
	maxDepth  = 24

	// What attestations state is larger: in the gate itself, and in a process of its own.
	maxStated      = 32_768
	maxStatedLarge = 2_000_000
	maxStatedDepth = 64
)

// scan returns an error where a document is more than a signature needs.
func scan(document []byte) error { return bounded.Values(document, maxTokens, maxDepth) }

// scanStatement returns an error where a statement is more than what its predicate type
// needs.
func scanStatement(payload []byte, predicateType string, values int) error {
	if predicateType == signPredicate {
		return scan(payload)
	}
	return bounded.Values(payload, values, maxStatedDepth)
}
