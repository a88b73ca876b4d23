package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/turns"
)

const (
	maxList   = 8 << 20  // bytes, of one page of a list
	maxItem   = 96 << 10 // bytes, of one entry in a list, and of all that is beside the entries
	maxListed = 20_000   // entries, over all pages
)

// decoding are the turns of those who read a list.
var decoding = turns.NewLane()

// descriptor is what the gate reads of an entry in a list (OCI image spec,
// "Content Descriptors").
type descriptor struct {
	MediaType    string          `json:"mediaType"`
	ArtifactType string          `json:"artifactType"`
	Digest       string          `json:"digest"`
	Size         int64           `json:"size"`
	Annotations  json.RawMessage `json:"annotations"`
	Data         json.RawMessage `json:"data"` // the content itself, in base64, if somebody put it there
}

// weight is what the entry has in memory beside a name.
func (d descriptor) weight() int { return len(d.Annotations) + len(d.Data) }

// shortlist keeps the best of what is listed, as much as is read later: no list,
// however long, takes more memory than that.
type shortlist struct {
	ranks [4][]descriptor
	// wanted are those that say to be an attestation that is wanted: they are counted
	// apart, so that neither they nor signatures push the other out.
	wanted      []descriptor
	totalWanted int
	seen        map[string]bool              // digests that were kept; nil where one may come twice
	total       int                          // of all that might be kept
	told        struct{ total, wanted bool } // that there are too many
}

func newShortlist() *shortlist { return &shortlist{seen: map[string]bool{}} }

// add keeps d among those of its rank, 0 being the best.
func (s *shortlist) add(rank int, d descriptor) {
	if s.seen[d.Digest] {
		return
	}
	s.total++
	if len(s.ranks[rank]) == maxSignatures {
		return
	}
	if s.seen != nil {
		s.seen[d.Digest] = true
	}
	s.ranks[rank] = append(s.ranks[rank], d)
}

// attestation keeps d among the attestations.
func (s *shortlist) attestation(d descriptor) {
	if s.seen[d.Digest] {
		return
	}
	s.totalWanted++
	if len(s.wanted) == maxAttestations {
		return
	}
	if s.seen != nil {
		s.seen[d.Digest] = true
	}
	s.wanted = append(s.wanted, d)
}

// attestations gives those that are to be read, and notes what it leaves out.
func (s *shortlist) attestations(f *fetch) []descriptor {
	if s.totalWanted > maxAttestations && !s.told.wanted {
		s.told.wanted = true
		f.found(malformed(fmt.Sprintf("%s has %d attestations of the types that are asked for", f.digest, s.totalWanted), fmt.Sprintf("at most %d", maxAttestations)))
	}
	return s.wanted
}

// merge adds what another list has kept.
func (s *shortlist) merge(other *shortlist) {
	for _, d := range other.wanted {
		s.attestation(d)
	}
	s.totalWanted += other.totalWanted - len(other.wanted)
	kept := 0
	for rank, items := range other.ranks {
		kept += len(items)
		for _, d := range items {
			s.add(rank, d)
		}
	}
	s.total += other.total - kept
}

// best gives what is to be read, and notes what it leaves out.
func (s *shortlist) best(f *fetch, what string) []descriptor {
	var all []descriptor
	for _, rank := range s.ranks {
		all = append(all, rank...)
	}
	if s.total > maxSignatures && !s.told.total {
		s.told.total = true
		f.found(malformed(fmt.Sprintf("%s has %d %s", f.digest, s.total, what), fmt.Sprintf("at most %d", maxSignatures)))
	}
	return all[:min(len(all), maxSignatures)]
}

// list reads the member of a list at the fetch's own host, and gives each entry
// to add. Where nothing is found and nothing is wrong, what was given is to be
// forgotten. What is listed under a tag has the digest that the host names; the
// image itself is not a list (some registries take a tag sha256-<hex> for a digest).
func (f *fetch) list(ctx context.Context, q query, member string, add func(descriptor)) (response, bool, error) {
	var malformedList error
	count := 0
	q.limit = maxList
	q.consume = func(body io.Reader) error {
		turn, err := decoding.Take(ctx)
		defer turn.Give()
		if err != nil {
			return err
		}
		source := &failing{Reader: turn.Reader(ctx, body)}
		err = bounded.Items(source, member, maxItem, func(d descriptor) bool {
			count++
			add(d)
			return count < maxListed
		})
		if malformedList = err; err == nil && count < maxListed {
			_, _ = io.Copy(io.Discard, source) // the digest is over all of it
		}
		return source.err
	}
	r, found, err := f.getFrom(ctx, f.hosts[0], q)
	switch {
	case err != nil || !found:
		return r, found, err
	case r.digest == f.digest: // the image
		return r, false, nil
	case malformedList != nil:
		return r, true, malformed(fmt.Sprintf("%s of %s: %v", q.path, f.digest, malformedList), fmt.Sprintf("a list of %s; one of them, and all beside them, of at most %d bytes", member, maxItem))
	case count == maxListed:
		return r, true, malformed(fmt.Sprintf("%s has more than %d %s", f.digest, maxListed, member), "a shorter list")
	case strings.HasPrefix(q.path, "manifests/"):
		if want := r.header.Get("Docker-Content-Digest"); want != "" && want != r.digest {
			return r, true, f.tampered(q.path, want, r.digest)
		}
	}
	return r, true, nil
}

// failing remembers an error of the reader in it, which is none of its content.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// found notes something that cannot be used.
func (f *fetch) found(problem error) {
	var refusal *code.Refusal
	if !errors.As(problem, &refusal) {
		refusal = broken(f.registry, problem)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.problems) < maxProblems {
		f.problems = append(f.problems, refusal)
	}
}
