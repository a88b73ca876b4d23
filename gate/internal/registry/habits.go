package registry

import "sync"

// maxHabits bounds what is remembered; what is beyond begins anew.
const maxHabits = 1024

// habits are where signatures were found before, and how hosts list referrers. Nothing
// is decided by them: they say only what is asked first.
type habits struct {
	mu     sync.Mutex
	places map[string][]question // with digests counted from the last
	api    map[string]bool       // host → has the referrers API
}

func newHabits() *habits { return &habits{places: map[string][]question{}, api: map[string]bool{}} }

// of gives the questions that were enough for what is like this.
func (h *habits) of(like string) []question {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.places[like]
}

func (h *habits) learn(like string, questions []question) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.places) >= maxHabits {
		clear(h.places)
	}
	h.places[like] = questions
}

func (h *habits) forget(like string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.places, like)
}

// lists says whether a host lists referrers by the API, or under the tag that stands for
// it; both where it has not been seen.
func (h *habits) lists(host string) (api, tag bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	has, seen := h.api[host]
	return has || !seen, !has
}

func (h *habits) saw(host string, api bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.api) >= maxHabits {
		clear(h.api)
	}
	h.api[host] = api
}
