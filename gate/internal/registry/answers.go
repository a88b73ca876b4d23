package registry

import (
	"os"
	"slices"

	"countersign/gate/internal/evidence"
)

// answered is an answer of one host.
type answered struct {
	question
	host int
	part *fetch
}

// took takes an answer, also those that have come meanwhile if they may be looked at
// together, and says whether there is more now that somebody could find enough.
func (s *search) took(a answered, together bool) (more bool) {
	for {
		s.pending--
		s.parts[a.digest][a.host][a.place] = a.part
		more = more || a.place == itself || !a.part.set().Empty()
		if !together {
			return more
		}
		select {
		case a = <-s.answered:
		default:
			return more
		}
	}
}

// useful are the questions whose answers had something, with the digests counted from the
// last: not every image has an index.
func (s *search) useful(last int) (questions []question) {
	for digest, hosts := range s.parts {
		for at := underTag; at < places; at++ {
			if slices.ContainsFunc(hosts, func(parts []*fetch) bool { return parts[at] != nil && !parts[at].set().Empty() }) {
				questions = append(questions, question{last - digest, at})
			}
		}
	}
	return questions
}

// sets gives what was found so far.
func (s *search) sets() []evidence.Set {
	found := make([]evidence.Set, len(s.want.Sets))
	for i, set := range s.want.Sets {
		found[i] = evidence.Set{Repository: set.Repository, Digest: set.Digest, Manifest: set.Manifest}
		for _, parts := range s.parts[i] {
			for _, part := range parts {
				if part != nil {
					found[i] = found[i].Merge(part.set())
				}
			}
		}
	}
	return found
}

// failures are those of the questions about a digest.
func (s *search) failures(digest int) []error {
	failures := []error{s.session.askable()}
	for _, parts := range s.parts[digest] {
		for _, part := range parts {
			if part != nil {
				failures = append(failures, part.failure)
			}
		}
	}
	return failures
}

// end gives up what is still being asked for.
func (s *search) end() {
	s.stop()
	for ; s.pending > 0; s.pending-- {
		a := <-s.answered
		for _, l := range a.part.large {
			os.Remove(l.Path)
		}
	}
}

// tidy removes large attestations that another host had too.
func (s *search) tidy(found []evidence.Set) {
	for i, hosts := range s.parts {
		for _, parts := range hosts {
			for _, part := range parts {
				if part == nil {
					continue
				}
				for _, l := range part.large {
					if !slices.Contains(found[i].Large, l) {
						os.Remove(l.Path)
					}
				}
			}
		}
	}
}
