package judge

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
)

// Sighting is one signature or attestation that hangs on a digest: what it says of
// itself, of which nothing is checked, and what each root of a policy says of it.
type Sighting struct {
	ID            string    `json:"id"`
	Format        string    `json:"format"`
	PredicateType string    `json:"predicateType,omitempty"` // of a bundle; that of signatures or an attestation's
	Attestation   bool      `json:"attestation"`
	Repository    string    `json:"repository,omitempty"` // that it names
	Subjects      []string  `json:"subjects"`             // digests that it is about
	Signer        Claimed   `json:"signer"`
	Times         []Time    `json:"times"`
	Problem       string    `json:"problem,omitempty"` // why it cannot be read
	Roots         []Opinion `json:"roots"`
}

// Claimed is who a signature says to be by.
type Claimed struct {
	Key       string     `json:"key,omitempty"`    // the fingerprint that a bundle hints at
	Names     []string   `json:"names,omitempty"`  // of its certificate
	Issuer    string     `json:"issuer,omitempty"` // who vouched for the name
	CA        string     `json:"ca,omitempty"`     // who issued the certificate
	Serial    string     `json:"serial,omitempty"` // of the certificate, in hex
	NotBefore *time.Time `json:"notBefore,omitempty"`
	NotAfter  *time.Time `json:"notAfter,omitempty"`
}

// Time is when a log or a timestamp authority says to have seen it.
type Time struct {
	Source   string     `json:"source"`       // log or timestamp
	At       *time.Time `json:"at,omitempty"` // a Rekor v2 says none
	LogIndex *int64     `json:"logIndex,omitempty"`
	LogID    string     `json:"logID,omitempty"` // hex
}

// Opinion is what a root says of one signature, alone and as an image's own.
type Opinion struct {
	Root    string     `json:"root"`
	OK      bool       `json:"ok"`
	Code    code.Code  `json:"code"`
	Found   string     `json:"found,omitempty"`   // what is wrong
	Expires *time.Time `json:"expires,omitempty"` // until when that holds
}

// maxShown bounds how much of a list a sighting has.
const maxShown = 16

// Inspect looks at all that a set has, one by one. Policy may be nil: then no root says
// anything. The error is that of the policy. What does not get its turn before the
// context ends has the code TIMEOUT.
func Inspect(ctx context.Context, p *policy.Policy, set evidence.Set) ([]Sighting, error) {
	var roots map[string]verifier
	if p != nil {
		var err error
		if roots, err = New(evidence.Collector{}).verifiers(p); err != nil {
			return nil, err
		}
	}
	alone := func() evidence.Set {
		return evidence.Set{Repository: set.Repository, Digest: set.Digest, Manifest: set.Manifest}
	}
	sightings := []Sighting{}
	add := func(one evidence.Set, s Sighting) {
		s.Roots = opinions(ctx, p, roots, one, s.PredicateType)
		sightings = append(sightings, s)
	}
	for _, a := range set.Attachments {
		one := alone()
		one.Attachments = []evidence.Attachment{a}
		add(one, seeAttachment(a))
	}
	for _, b := range set.Bundles {
		one := alone()
		one.Bundles = []evidence.Bundle{b}
		add(one, seeBundle(b))
	}
	for _, l := range set.Large {
		one := alone()
		b, err := openLarge(l)
		if err != nil {
			sightings = append(sightings, Sighting{ID: l.ID(), Format: formatBundle, Attestation: true, Subjects: []string{}, Times: []Time{}, Problem: err.Error(), Roots: []Opinion{}})
			continue
		}
		one.Bundles = []evidence.Bundle{b}
		add(one, seeBundle(b))
	}
	for _, e := range set.Envelopes {
		one := alone()
		one.Envelopes = []evidence.Envelope{e}
		add(one, seeEnvelope(e))
	}
	return sightings, nil
}

// openLarge reads a large attestation into memory: nothing here runs on a node's behalf.
func openLarge(l evidence.Large) (evidence.Bundle, error) {
	file, err := os.Open(l.Path)
	if err != nil {
		return evidence.Bundle{}, err
	}
	defer file.Close()
	content, err := readLarge(file)
	b := evidence.Bundle{JSON: content}
	if err == nil && b.ID() != l.Sum {
		err = fmt.Errorf("its digest is sha256:%s, not sha256:%s", b.ID(), l.Sum)
	}
	return b, err
}

// opinions has each root, in the order of their names, look at a set of one.
func opinions(ctx context.Context, p *policy.Policy, roots map[string]verifier, one evidence.Set, kind string) []Opinion {
	all := []Opinion{}
	if p == nil {
		return all
	}
	if kind == "" {
		kind = signPredicate // attachments and envelopes state nothing else
	}
	names := make([]string, 0, len(roots))
	for name := range roots {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		m := &material{Set: one, kind: kind, wanted: []string{signPredicate, kind},
			seen: seen{map[string]*readBundle{}, map[string]*certified{}, map[string]*readEnvelope{}, maxStatedLarge}}
		all = append(all, opinion(ctx, name, roots[name], m))
	}
	return all
}

func opinion(ctx context.Context, name string, root verifier, m *material) Opinion {
	if found, ok := root.verify(ctx, m); ok {
		o := Opinion{Root: name, OK: true, Code: code.OK}
		if !found.expires.IsZero() {
			o.Expires = &found.expires
		}
		return o
	}
	findings := root.diagnose(ctx, m)
	switch {
	case ctx.Err() != nil:
		return Opinion{Root: name, Code: code.Timeout, Found: "it had no turn in time"}
	case len(findings) == 0:
		return Opinion{Root: name, Code: code.Unsigned, Found: "a root of this kind does not read this format"}
	}
	furthest := slices.MaxFunc(findings, func(a, b finding) int { return progress[a.code] - progress[b.code] })
	_, text, ok := strings.Cut(furthest.text, ", root "+name+": ") // which signature and root, the reader knows
	if !ok {
		text = furthest.text
	}
	return Opinion{Root: name, Code: furthest.code, Found: bounded.Text(text, maxFinding)}
}

func seeAttachment(a evidence.Attachment) Sighting {
	s := Sighting{ID: a.ID(), Format: formatAttachment, Subjects: []string{}, Times: []Time{}, Roots: []Opinion{}}
	said, err := parsePayload(a.Payload)
	if err != nil {
		s.Problem = bounded.Text(err.Error(), maxFinding)
	} else {
		s.Repository, s.Subjects = bounded.Text(said.repository, maxFinding), []string{said.digest}
	}
	entity, _, err := bundleOfAttachment(a)
	switch {
	case errors.Is(err, errNoCertificate):
	case err != nil:
		s.Problem = bounded.Text(err.Error(), maxFinding)
	default:
		s.see(entity)
	}
	return s
}

func seeBundle(b evidence.Bundle) Sighting {
	s := Sighting{ID: b.ID(), Format: formatBundle, Subjects: []string{}, Times: []Time{}, Roots: []Opinion{}}
	kind := parseBundle(b, nil, maxStatedLarge).statement.predicateType
	read := parseBundle(b, []string{kind}, maxStatedLarge)
	s.PredicateType, s.Attestation = bounded.Text(kind, maxFinding), kind != signPredicate
	if read.err != nil || read.bundle == nil {
		s.Problem = "it has no statement of a type"
		if read.err != nil {
			s.Problem = bounded.Text(read.err.Error(), maxFinding)
		}
		return s
	}
	s.Subjects = append(s.Subjects, read.statement.subjects[:min(len(read.statement.subjects), maxShown)]...)
	if hint, err := base64.StdEncoding.DecodeString(read.bundle.GetVerificationMaterial().GetPublicKey().GetHint()); err == nil && len(hint) == 32 {
		s.Signer.Key = "sha256:" + hex.EncodeToString(hint)
	}
	s.see(read.bundle)
	return s
}

func seeEnvelope(e evidence.Envelope) Sighting {
	s := Sighting{ID: e.ID(), Format: formatNotation, Subjects: []string{}, Times: []Time{}, Roots: []Opinion{}}
	read := parseEnvelope(e)
	if read.err != nil {
		s.Problem = bounded.Text(read.err.Error(), maxFinding)
		return s
	}
	s.Subjects = []string{bounded.Text(read.target.Digest.String(), maxFinding)}
	s.Signer = certifiedAs(read.chain[0])
	s.Signer.Names = append([]string{bounded.Text(read.chain[0].Subject.String(), maxFinding)}, s.Signer.Names...)
	return s
}

func certifiedAs(leaf *x509.Certificate) Claimed {
	c := Claimed{CA: bounded.Text(leaf.Issuer.String(), maxFinding), NotBefore: &leaf.NotBefore, NotAfter: &leaf.NotAfter,
		Serial: bounded.Text(leaf.SerialNumber.Text(16), maxFinding)}
	for _, name := range namesOf(leaf)[:min(len(namesOf(leaf)), maxShown)] {
		c.Names = append(c.Names, bounded.Text(name.Value, maxFinding))
	}
	return c
}
