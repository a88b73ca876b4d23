// Package verdict is the one form in which a verdict leaves the gate: on the
// socket, in the log, and on the command line.
package verdict

import (
	"slices"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
)

// Version of the JSON form.
const Version = "countersign.verdict/v1"

// Layer names where a verdict was enforced.
type Layer string

// The layers that the gate serves.
const (
	Pull   Layer = "pull"
	Create Layer = "create"
	Audit  Layer = "audit"
	Verify Layer = "verify" // asked for on the command line, enforced nowhere
)

// Verdict is allow or refuse, with one reason code, for one image digest under
// one policy.
type Verdict struct {
	Version    string    `json:"version"`
	Time       time.Time `json:"time"`
	Layer      Layer     `json:"layer"`
	Allow      bool      `json:"allow"`
	Code       code.Code `json:"code"`
	Image      string    `json:"image"`                // the name as the user wrote it
	Repository string    `json:"repository,omitempty"` // normalised, "" for names without a scope
	Index      string    `json:"index,omitempty"`      // digests of what runs
	Manifest   string    `json:"manifest,omitempty"`
	Config     string    `json:"config,omitempty"`
	Scope      string    `json:"scope,omitempty"`  // the scope that matched
	Root       string    `json:"root,omitempty"`   // the root(s) of trust that were satisfied, comma-separated
	Format     string    `json:"format,omitempty"` // the signature format(s) that satisfied, comma-separated
	Container  string    `json:"container,omitempty"`
	Pod        string    `json:"pod,omitempty"` // namespace/name
	PodUID     string    `json:"podUID,omitempty"`
	Message    string    `json:"message"` // the sentence for a user
	Details    []string  `json:"details,omitempty"`

	Attestations []Attestation `json:"attestations,omitempty"` // that the scope asks for

	Until time.Time `json:"-"` // when what it rests on ends; zero: never

	Source string  `json:"source,omitempty"` // where the outcome came from: memory, store, registry, layout, policy
	Policy string  `json:"policy,omitempty"` // sha256 of the policy file
	Millis float64 `json:"ms"`
	Steps  []Step  `json:"steps,omitempty"` // only where a person asked: verify, explain
	NRI    string  `json:"nri,omitempty"`   // only in a ping: connected, disconnected, off
	Mode   string  `json:"mode,omitempty"`  // only in a ping of a gate that does not enforce: observing
	PID    int     `json:"pid,omitempty"`   // only in a ping: the gate's own process

	// Only in a ping: the serial of the policy in force, and why the file is not.
	Serial      int64  `json:"serial,omitempty"`
	PolicyError string `json:"policyError,omitempty"`
}

// Bounds on what a verdict repeats of what came from outside, in bytes.
const (
	MaxName = 512 // a name is 255 bytes at most, a tag 128, a digest 71
	maxText = 2048
)

// Fit cuts what came from outside to its bounds, and makes it safe to show: an
// answer that is too large to be sent would be taken for a gate that is down, each
// verdict stays in the log, and most are read on a terminal.
func (v *Verdict) Fit() {
	for _, name := range []*string{&v.Image, &v.Repository, &v.Index, &v.Manifest, &v.Config, &v.Container, &v.Pod, &v.PodUID} {
		*name = bounded.Text(*name, MaxName)
	}
	for _, text := range []*string{&v.Scope, &v.Root, &v.Format, &v.Message, &v.PolicyError} { // a policy's names too
		*text = bounded.Text(*text, maxText)
	}
	v.Attestations = slices.Clone(v.Attestations)
	for i := range v.Attestations {
		one := &v.Attestations[i]
		one.Type, one.Root, one.Outcome = bounded.Text(one.Type, MaxName), bounded.Text(one.Root, maxText), bounded.Text(one.Outcome, maxText)
	}
	v.Details, v.Steps = slices.Clone(v.Details), slices.Clone(v.Steps) // those of a remembered outcome are others' too
	for i := range v.Details {
		v.Details[i] = bounded.Text(v.Details[i], maxText)
	}
	for i := range v.Steps {
		v.Steps[i].Name = bounded.Text(v.Steps[i].Name, MaxName)
		v.Steps[i].Outcome = bounded.Text(v.Steps[i].Outcome, maxText)
	}
}

// Attestation is one that the scope asks for, and what came of it.
type Attestation struct {
	Type    string     `json:"type"` // predicate type
	OK      bool       `json:"ok"`
	Root    string     `json:"root,omitempty"`    // who has signed it, if it is OK
	Digest  string     `json:"digest,omitempty"`  // what it is about
	Expires *time.Time `json:"expires,omitempty"` // when that has to be judged anew
	Outcome string     `json:"outcome"`           // found, or what is wrong
}

// Step is one thing the gate looked at, and what came of it.
type Step struct {
	Name    string  `json:"name"`
	Outcome string  `json:"outcome"`
	OK      bool    `json:"ok"`
	Millis  float64 `json:"ms"`
}
