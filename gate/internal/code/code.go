// Package code holds the closed list of reason codes. The same list, spelled
// the same, is shared/reason-codes.json; a test compares the two.
package code

import "slices"

// Code is why a verdict came out as it did.
type Code string

// Allowing codes.
const (
	OK              Code = "OK"
	AcceptedByScope Code = "ACCEPTED_BY_SCOPE"
	PinnedDigest    Code = "PINNED_DIGEST"
)

// Refusing codes.
const (
	NoScope            Code = "NO_SCOPE"
	RejectedByScope    Code = "REJECTED_BY_SCOPE"
	Unsigned           Code = "UNSIGNED"
	BadSignature       Code = "BAD_SIGNATURE"
	Tampered           Code = "TAMPERED"
	UntrustedChain     Code = "UNTRUSTED_CHAIN"
	WrongIdentity      Code = "WRONG_IDENTITY"
	Expired            Code = "EXPIRED"
	NoTrustedTime      Code = "NO_TRUSTED_TIME"
	OtherImage         Code = "OTHER_IMAGE"
	NoAttestation      Code = "NO_ATTESTATION"
	Revoked            Code = "REVOKED"
	NoRecord           Code = "NO_RECORD"
	NotWhatRuns        Code = "NOT_WHAT_RUNS"
	NoEvidenceOffline  Code = "NO_EVIDENCE_OFFLINE"
	RegistryError      Code = "REGISTRY_ERROR"
	RegistryAuth       Code = "REGISTRY_AUTH"
	BadReference       Code = "BAD_REFERENCE"
	Malformed          Code = "MALFORMED"
	UnsupportedRuntime Code = "UNSUPPORTED_RUNTIME"
	GateDown           Code = "GATE_DOWN"
	Timeout            Code = "TIMEOUT"
	RuntimeUnreachable Code = "RUNTIME_UNREACHABLE"
	PolicyInvalid      Code = "POLICY_INVALID"
)

// All is the whole list, in the order of shared/reason-codes.json.
var All = []Code{
	OK, AcceptedByScope, PinnedDigest,
	NoScope, RejectedByScope, Unsigned, BadSignature, Tampered, UntrustedChain, WrongIdentity,
	Expired, NoTrustedTime, OtherImage, NoAttestation, Revoked, NoRecord, NotWhatRuns, NoEvidenceOffline,
	RegistryError, RegistryAuth, BadReference, Malformed, UnsupportedRuntime, GateDown, Timeout,
	RuntimeUnreachable, PolicyInvalid,
}

// Known says whether the code is on the list.
func Known(c Code) bool {
	return slices.Contains(All, c)
}

// Allows says whether a verdict with this code lets the image run.
func (c Code) Allows() bool {
	return c == OK || c == AcceptedByScope || c == PinnedDigest
}

// Refusal is an error that carries its reason code: every step that can end
// in "refuse" returns one. Found, Expected and Do are the three parts of the
// sentence that a user reads.
type Refusal struct {
	Code     Code
	Found    string
	Expected string
	Do       string
}

// Error gives "CODE: found, expected …, do".
func (r *Refusal) Error() string {
	s := string(r.Code) + ": " + r.Found
	if r.Expected != "" {
		s += "; expected " + r.Expected
	}
	if r.Do != "" {
		s += "; " + r.Do
	}
	return s
}

// Refuse makes a Refusal.
func Refuse(c Code, found, expected, do string) *Refusal {
	return &Refusal{Code: c, Found: found, Expected: expected, Do: do}
}
