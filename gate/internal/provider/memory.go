package provider

import (
	"context"
	"strings"
	"sync"
	"time"

	"countersign/gate/internal/lru"
)

// What an answer holds for (cacheKeyType).
const (
	kindImage    = "Image"
	kindRegistry = "Registry"
	kindGlobal   = "Global"
)

const (
	maxAnswers    = 1024    // remembered
	maxRemembered = 2 << 20 // bytes of them
	maxRuns       = 4       // programs at a time, of all providers
	failureEnds   = time.Second
)

// memory is what the providers answered, and the runs in hand.
type memory struct {
	answers *lru.Cache[key, outcome]
	slots   chan struct{}

	mu    sync.Mutex
	runs  map[key]*run
	kinds map[string]string // of the last answer, by provider
}

// key names what an answer holds for: of a provider, one image, one registry, or all
// where about is "".
type key struct {
	provider string
	about    string
}

// outcome is an answer, or why there is none.
type outcome struct {
	answer
	err error
}

// run is one of a program that is under way.
type run struct {
	outcome
	image string
	done  chan struct{}
}

func newMemory() *memory {
	return &memory{
		answers: lru.NewSized[key](maxAnswers, maxRemembered, func(o outcome) int { return o.size() }),
		slots:   make(chan struct{}, maxRuns),
		runs:    map[key]*run{},
		kinds:   map[string]string{},
	}
}

func (o outcome) size() int {
	size := 0
	for pattern, login := range o.auth {
		size += len(pattern) + len(login.User) + len(login.Password)
	}
	return size
}

// get gives what is remembered for an image, or else the outcome of a run that all
// who need it wait for. Until a provider has said what its answers hold for, it is
// run once at a time. A run does not end with who asked first: only at its deadline.
func (m *memory) get(ctx context.Context, s settings, image string, program func(context.Context) (answer, error)) (answer, error) {
	identity := s.identity()
	for {
		m.mu.Lock()
		if o, ok := m.recall(identity, image); ok {
			m.mu.Unlock()
			return o.answer, o.err
		}
		joined := key{identity, about(m.kinds[identity], image)}
		r := m.runs[joined]
		if r == nil {
			r = &run{image: image, done: make(chan struct{})}
			m.runs[joined] = r
			go m.do(ctx, joined, r, program)
		}
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return answer{}, errLate
		case <-r.done:
		}
		if r.holdsFor(image) {
			return r.answer, r.err
		}
	}
}

// holdsFor says whether the outcome of a run that was joined is one for that image
// too.
func (r *run) holdsFor(image string) bool {
	return r.err != nil || about(r.kind, image) == about(r.kind, r.image)
}

// about gives what an answer of that kind, got for an image, holds for.
func about(kind, image string) string {
	switch kind {
	case kindImage:
		return image
	case kindRegistry:
		host, _, _ := strings.Cut(image, "/")
		return host
	}
	return ""
}

// recall gives what still holds for an image.
func (m *memory) recall(identity, image string) (outcome, bool) {
	for _, kind := range []string{kindImage, kindRegistry, kindGlobal} {
		if o, ok := m.answers.Get(key{identity, about(kind, image)}); ok && time.Now().Before(o.ends) {
			return o, true
		}
	}
	return outcome{}, false
}

// do runs the program within two thirds of the time that ctx has left, so that the
// registry can still be asked, and remembers the outcome.
func (m *memory) do(ctx context.Context, joined key, r *run, program func(context.Context) (answer, error)) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if end, ok := ctx.Deadline(); ok {
		own, cancel = context.WithTimeout(own, time.Until(end)*2/3)
	}
	defer cancel()
	select {
	case m.slots <- struct{}{}:
		r.answer, r.err = program(own)
		<-m.slots
	case <-own.Done():
		r.err = errLate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := key{joined.provider, about(kindImage, r.image)}
	if r.err != nil {
		r.ends = time.Now().Add(failureEnds)
	} else {
		at.about = about(r.kind, r.image)
		m.remember(joined.provider, r.kind)
	}
	if time.Now().Before(r.ends) {
		m.answers.Put(at, r.outcome)
	}
	delete(m.runs, joined)
	close(r.done)
}

// remember keeps what a provider's answers hold for; those of settings that are no
// more are forgotten with the others.
func (m *memory) remember(provider, kind string) {
	if len(m.kinds) == maxProviders {
		clear(m.kinds)
	}
	m.kinds[provider] = kind
}
