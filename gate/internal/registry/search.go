package registry

import (
	"cmp"
	"context"
	"time"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/reference"
)

// place is where something about a digest is to be had.
type place int

const (
	itself     place = iota // the manifest or index
	underTag                // cosign's tags for the digest
	asReferrer              // referrers, listed as the host is known to list them; in both ways where that is not known
	elsewhere               // referrers, listed in the other way, and those that were left
	places
)

// question is what all hosts are asked.
type question struct {
	digest int // its number
	place  place
}

// search is a look-up for one image, of which one digest or several may be signed.
type search struct {
	want     evidence.Search
	client   *Client
	session  *session
	stop     context.CancelFunc
	spread   []spread // of the hosts
	asked    map[question]bool
	parts    [][][]*fetch // what was answered, by digest, host and place
	answered chan answered
	pending  int
	whole    bool // everything is asked
}

// spread is what the questions to one host share.
type spread struct {
	*session
	api, tag bool            // how it lists referrers
	of       []*referrers    // by digest
	slots    []chan struct{} // by digest
}

// Search asks where the last image that was like this one had its signatures, or, where
// none is known, where they are likeliest; and only if that is not enough everywhere
// else: before something is called absent, all hosts were asked for all of it. What is
// enough is not held up by a host that is silent. It implements evidence.Fetcher.
func (c *Client) Search(ctx context.Context, want evidence.Search) ([]evidence.Set, []error) {
	began := time.Now()
	found, errs := c.lookUp(ctx, want)
	c.config.LookedUp(time.Since(began), cmp.Or(errs...))
	return found, errs
}

func (c *Client) lookUp(ctx context.Context, want evidence.Search) ([]evidence.Set, []error) {
	for _, set := range want.Sets {
		if err := reference.CheckDigest(set.Digest); err != nil {
			return nothing(want, malformed(err.Error(), "a sha256 digest"))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	session, err := c.open(ctx, want.Sets[0].Repository)
	if err != nil {
		return nothing(want, err)
	}
	defer session.close()
	s := c.search(session, want, cancel)
	enough := s.run(ctx)
	s.end()
	found := s.sets()
	s.tidy(found)
	errs := make([]error, len(found))
	for i := range found {
		if err := split(&found[i], s.failures(i)); !enough {
			errs[i] = err
		}
	}
	return found, errs
}

// nothing is found where nobody could be asked.
func nothing(want evidence.Search, why error) (found []evidence.Set, errs []error) {
	for _, set := range want.Sets {
		found = append(found, evidence.Set{Repository: set.Repository, Digest: set.Digest, Manifest: set.Manifest})
		errs = append(errs, why)
	}
	return found, errs
}

func (c *Client) search(session *session, want evidence.Search, stop context.CancelFunc) *search {
	count := len(want.Sets)
	s := &search{want: want, client: c, session: session, stop: stop, asked: map[question]bool{},
		answered: make(chan answered, count*len(session.hosts)*int(places)), whole: want.Enough == nil}
	for i, host := range session.hosts {
		one := spread{session: session.from(i)}
		one.api, one.tag = c.habits.lists(host.Host)
		if s.whole {
			one.api, one.tag = true, true
		}
		for range count {
			one.of = append(one.of, newReferrers(s.whole))
			one.slots = append(one.slots, make(chan struct{}, parallel))
		}
		s.spread = append(s.spread, one)
	}
	for range count {
		hosts := make([][]*fetch, len(session.hosts))
		for i := range hosts {
			hosts[i] = make([]*fetch, places)
		}
		s.parts = append(s.parts, hosts)
	}
	return s
}

// run asks until there is enough, and says whether there is.
func (s *search) run(ctx context.Context) bool {
	like := s.session.registry + " " + s.want.Like
	first, known := s.first(like)
	rest := s.whole
	if rest {
		s.askRest(ctx)
	} else {
		s.ask(ctx, first...)
	}
	waiting := time.NewTimer(s.client.config.Timeout / 3) // the rest needs its time too
	defer waiting.Stop()
	for {
		if s.pending == 0 && rest {
			return false
		}
		late := false
		if s.pending > 0 {
			select {
			case a := <-s.answered:
				if s.took(a, rest) && s.want.Enough != nil && s.want.Enough(s.sets()) {
					if !known || !rest {
						s.client.habits.learn(like, s.useful(len(s.want.Sets)-1))
					}
					return true
				}
			case <-waiting.C:
				late = true
			}
		}
		if !rest && (late || s.pending == 0) {
			rest = true
			s.client.habits.forget(like)
			s.askRest(ctx)
		}
	}
}

// first are the questions that are likely to be enough, and whether that is known from
// what was like this.
func (s *search) first(like string) (questions []question, known bool) {
	last := len(s.want.Sets) - 1
	for _, q := range s.client.habits.of(like) {
		questions = append(questions, question{max(last-q.digest, 0), q.place})
	}
	if len(questions) > 0 {
		return questions, true
	}
	if s.want.Tagged {
		questions = append(questions, question{last, underTag})
	}
	if s.want.Referred {
		questions = append(questions, question{last, asReferrer})
	}
	return questions, false
}

func (s *search) askRest(ctx context.Context) {
	for _, one := range s.spread {
		for _, r := range one.of {
			r.readAll()
		}
	}
	for digest := range s.want.Sets {
		s.ask(ctx, question{digest, underTag}, question{digest, asReferrer})
		if !s.whole {
			s.ask(ctx, question{digest, elsewhere})
		}
	}
}

// ask asks all hosts side by side, and once.
func (s *search) ask(ctx context.Context, questions ...question) {
	for _, q := range questions {
		if s.asked[q] {
			continue
		}
		s.asked[q] = true
		if own := (question{q.digest, itself}); s.want.Sets[q.digest].Manifest == nil && !s.asked[own] {
			s.asked[own] = true
			s.send(own, 0, func(f *fetch) error { return f.itself(ctx) })
		}
		for host := range s.spread {
			s.send(q, host, func(f *fetch) error { return s.put(ctx, f, q.place, host) })
		}
	}
}

func (s *search) send(q question, host int, do func(*fetch) error) {
	one := s.spread[host]
	f := &fetch{session: one.session, digest: s.want.Sets[q.digest].Digest, types: s.want.Types, spool: s.client.config.Spool, habits: s.client.habits,
		referrersNeed: referrersNeed(s.session.hosts), slots: one.slots[q.digest], referrers: one.of[q.digest]}
	s.pending++
	go func() {
		f.failure = do(f)
		s.answered <- answered{q, host, f}
	}()
}

// put puts a question to one host.
func (s *search) put(ctx context.Context, f *fetch, at place, host int) error {
	switch one := s.spread[host]; at {
	case underTag:
		return f.underTags(ctx)
	case asReferrer:
		return f.referred(ctx, one.api, one.tag)
	default:
		return f.referred(ctx, !one.api, !one.tag)
	}
}

// itself gets the manifest or index.
func (f *fetch) itself(ctx context.Context) error {
	manifest, _, err := f.manifest(ctx, f.digest, maxManifest)
	f.raw = manifest.Raw
	return err
}
