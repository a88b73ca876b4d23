package judge

import (
	"fmt"
	"slices"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
)

// finding is what the diagnosis says of one signature, or of one failed look-up.
type finding struct {
	code code.Code
	text string
}

func (f finding) String() string {
	return string(f.code) + ": " + bounded.Text(f.text, maxFinding)
}

// progress orders the codes by how far a signature got: when all fail, the
// outcome has the code of the one that got furthest.
var progress = map[code.Code]int{
	code.Unsigned:          1,  // nothing there
	code.NoEvidenceOffline: 2,  // nobody could be asked
	code.Timeout:           3,  // there was no time to read what was answered
	code.RegistryAuth:      4,  // somebody was there
	code.RegistryError:     5,  // and answered
	code.Malformed:         6,  // something was there, and is not a signature
	code.BadSignature:      7,  // a signature, by nobody who is trusted
	code.Tampered:          8,  // one that names a trusted key
	code.UntrustedChain:    9,  // one with a certificate, of nobody who is trusted
	code.NoTrustedTime:     10, // of a trusted CA, at an unknown time
	code.Expired:           11, // at a known time, too late
	code.WrongIdentity:     12, // in time, by somebody else
	code.OtherImage:        13, // by the right one, for another image
	code.Revoked:           14, // by the right one, who is no longer trusted
	code.NoAttestation:     15, // an attestation of the right one, of which the rest is not as it has to be
}

// advice says what to do, by code. It is the last part of the sentence.
var advice = map[code.Code]string{
	code.NoScope:           "add a scope to the policy, or use an image from one",
	code.RejectedByScope:   "use an image from another scope, or change the policy",
	code.Unsigned:          "sign the image: ./inv signing.sign --image REF",
	code.NoEvidenceOffline: "make the registry reachable, or push the evidence to the node",
	code.RegistryAuth:      "give the gate's Docker config credentials that may read there, or push the evidence to the node",
	code.RegistryError:     "look into the registry's log",
	code.Malformed:         "sign the image again",
	code.BadSignature:      "sign the image with a trusted key, or trust the key in the policy",
	code.Tampered:          "find out who changed the signature, and sign the image again",
	code.UntrustedChain:    "sign with a certificate of a trusted CA",
	code.NoTrustedTime:     "sign with the log or timestamp authority that the policy asks for",
	code.Expired:           "sign the image again",
	code.WrongIdentity:     "sign as the identity that the policy names",
	code.NoAttestation:     "attest this digest as the scope asks, or change the scope",
	code.OtherImage:        "sign this digest in this repository",
	code.Timeout:           "try again; look into the gate's log if it goes on",
	code.Revoked:           "use an image that is signed with a key that is still trusted",
}

// What a hostile registry can make the gate say, and remember.
const (
	maxDetails = 32
	maxFinding = 1024 // bytes
)

// details lists the findings, each text once, within the bound.
func details(findings []finding) []string {
	var lines []string
	for _, f := range findings {
		if line := f.String(); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if more := len(lines) - maxDetails; more > 0 {
		lines = append(lines[:maxDetails], fmt.Sprintf("and %d more", more))
	}
	return lines
}
