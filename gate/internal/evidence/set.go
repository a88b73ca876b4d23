package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"countersign/gate/internal/code"
)

// Set is all that is known about one (repository, digest): nothing in it is
// trusted until a root of trust has verified it.
type Set struct {
	Repository string
	Digest     string // sha256:<hex> of Manifest

	Manifest    []byte // raw manifest or index, checked against Digest; nil where it is not known
	Attachments []Attachment
	Bundles     []Bundle
	Envelopes   []Envelope
	Large       []Large // bundles that are too large to be held in memory

	// Problems tell what was found and could not be used: it never hides what
	// could.
	Problems []*code.Refusal

	// dir is a folder in which containers/image finds these very attachments, or "".
	dir    string
	proven bool // has satisfied a rule before; says nothing about any policy now
}

// Attachment is one signature in cosign's "simple signing" format.
type Attachment struct {
	MediaType   string
	Payload     []byte
	Annotations map[string]string
}

// Bundle is one Sigstore bundle, as the JSON that it came in.
type Bundle struct {
	JSON []byte
}

// Envelope is one signature of the Notary Project, JWS or COSE.
type Envelope struct {
	MediaType string // a key of EnvelopeTypes
	Raw       []byte
}

// EnvelopeTypes are the media types of envelopes (Notary Project specifications,
// signature-specification.md), with what ends the name of such a file.
var EnvelopeTypes = map[string]string{"application/jose+json": "jws", "application/cose": "cose"}

// MaxEnvelope bounds one envelope, in bytes. One with a chain of three RSA certificates
// and a timestamp has some 15 KiB.
const MaxEnvelope = 64 << 10

// ID names an envelope by the sha256 (hex) of its bytes, and its type.
func (e Envelope) ID() string { return sum(e.Raw) + "." + EnvelopeTypes[e.MediaType] }

// Large is a bundle on disk, of more than MaxInMemory bytes: an attestation, such as an
// SBOM. Nobody has compared the file with its sum yet.
type Large struct {
	Sum  string // sha256 (hex) of its bytes
	Size int64
	Path string
}

// Bounds of a bundle, in bytes. An SBOM of 16 MiB is a bundle of 22.
const (
	MaxInMemory = 256 << 10
	MaxLarge    = 24 << 20
)

// ID names a large bundle as if it were in memory.
func (l Large) ID() string { return l.Sum }

// ID names an attachment by a sha256 (hex) over all that it says.
func (a Attachment) ID() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d\n", a.MediaType, len(a.Payload))
	h.Write(a.Payload)
	for _, key := range slices.Sorted(maps.Keys(a.Annotations)) {
		fmt.Fprintf(h, "%q=%q\n", key, a.Annotations[key])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ID names a bundle by the sha256 (hex) of its bytes.
func (b Bundle) ID() string { return sum(b.JSON) }

// Empty says that the set has no signature in any format.
func (s Set) Empty() bool {
	return len(s.Attachments)+len(s.Bundles)+len(s.Envelopes)+len(s.Large) == 0
}

// WithManifest gives the set its manifest, if that has the right digest.
func (s Set) WithManifest(raw []byte) Set {
	if got := "sha256:" + sum(raw); got != s.Digest {
		s.Problems = append(slices.Clip(s.Problems), code.Refuse(code.Tampered, "the manifest has digest "+got, s.Digest,
			"pull the image again"))
		return s
	}
	s.Manifest = raw
	return s
}

// Merge adds what other has and s has not.
func (s Set) Merge(other Set) Set {
	if s.Manifest == nil {
		s.Manifest = other.Manifest
	}
	all := union(s.Attachments, other.Attachments)
	if len(all) > len(s.Attachments) {
		s.dir = ""
	}
	s.Attachments = all
	s.Bundles = union(s.Bundles, other.Bundles)
	s.Envelopes = union(s.Envelopes, other.Envelopes)
	s.Large = union(s.Large, other.Large)
	s.Problems = slices.Concat(s.Problems, other.Problems)
	return s
}

// size gives about how many bytes the set keeps in memory.
func (s Set) size() int {
	bytes := len(s.Manifest)
	for _, a := range s.Attachments {
		bytes += len(a.Payload)
		for key, value := range a.Annotations {
			bytes += len(key) + len(value)
		}
	}
	for _, b := range s.Bundles {
		bytes += len(b.JSON)
	}
	for _, e := range s.Envelopes {
		bytes += len(e.Raw)
	}
	return bytes
}

// HashOf identifies the signatures of sets (not their order, nor the problems
// met): sha256:<hex>. Verdicts remembered under it end when evidence changes.
func HashOf(sets ...Set) string {
	var lines []string
	for _, s := range sets {
		for _, a := range s.Attachments {
			lines = append(lines, fmt.Sprintf("%s@%s attachment %s\n", s.Repository, s.Digest, a.ID()))
		}
		for _, b := range s.Bundles {
			lines = append(lines, fmt.Sprintf("%s@%s bundle %s\n", s.Repository, s.Digest, b.ID()))
		}
		for _, e := range s.Envelopes {
			lines = append(lines, fmt.Sprintf("%s@%s envelope %s\n", s.Repository, s.Digest, e.ID()))
		}
		for _, l := range s.Large {
			lines = append(lines, fmt.Sprintf("%s@%s bundle %s\n", s.Repository, s.Digest, l.ID()))
		}
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, line := range slices.Compact(lines) {
		h.Write([]byte(line))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func union[T interface{ ID() string }](have, more []T) []T {
	seen := make(map[string]bool, len(have))
	for _, item := range have {
		seen[item.ID()] = true
	}
	out := slices.Clip(have)
	for _, item := range more {
		if !seen[item.ID()] {
			seen[item.ID()] = true
			out = append(out, item)
		}
	}
	return out
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}
