package externaldata

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/verdict"
)

const (
	signedImage   = "registry.example/app:signed"
	unsignedImage = "registry.example/app:unsigned"
)

// judging is an engine that does what a test tells it.
type judging struct {
	mu     sync.Mutex
	asked  int
	policy string
	judge  func(ctx context.Context, image string) *verdict.Verdict
}

func newJudging() *judging {
	j := &judging{policy: "sha256:policy"}
	j.judge = func(_ context.Context, image string) *verdict.Verdict {
		if strings.HasPrefix(image, signedImage) {
			return &verdict.Verdict{Allow: true, Code: code.OK, Manifest: "sha256:m", Policy: j.policy, Message: "countersign: allowed"}
		}
		return &verdict.Verdict{Code: code.Unsigned, Policy: j.policy, Message: "countersign: refused " + image + ": UNSIGNED: nothing"}
	}
	return j
}

func (j *judging) Verify(ctx context.Context, image string) *verdict.Verdict {
	j.mu.Lock()
	j.asked++
	judge := j.judge
	j.mu.Unlock()
	return judge(ctx, image)
}

func (j *judging) PolicyHash() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.policy
}

func (j *judging) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.asked
}

func (j *judging) set(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
}

func allows(one item) bool { return one.Error == "" && one.Value != nil && one.Value.Allow }

func TestOneItemForEachImage(t *testing.T) {
	s := serve(t, nil)
	status, got := s.asGatekeeper(t, http.MethodPost, s.url, asking(unsignedImage, signedImage, signedImage, ""))
	items := got.Response.Items
	if status != http.StatusOK || len(items) != 3 {
		t.Fatalf("%d, %+v", status, items)
	}
	for i, want := range []string{"", signedImage, unsignedImage} {
		if items[i].Key != want || allows(items[i]) != (want == signedImage) {
			t.Errorf("%+v", items[i])
		}
	}
	if v := items[1].Value; v.Code != code.OK || v.Digest != "sha256:m" || v.Policy != "sha256:policy" {
		t.Errorf("%+v", v)
	}
	if !strings.Contains(items[2].Error, ": UNSIGNED: ") {
		t.Errorf("%q", items[2].Error)
	}
}

func TestVerdictsThatAllowNothing(t *testing.T) {
	allowing := func() *verdict.Verdict {
		return &verdict.Verdict{Allow: true, Code: code.OK, Message: "countersign: allowed"}
	}
	for _, test := range []struct {
		name  string
		image string
		judge func() *verdict.Verdict
		want  code.Code // "" for none that refuses
	}{
		{"one that allows", signedImage, allowing, ""},
		{"none", signedImage, func() *verdict.Verdict { return nil }, code.GateDown},
		{"an empty one", signedImage, func() *verdict.Verdict { return &verdict.Verdict{} }, code.GateDown},
		{"allowed by a code that refuses", signedImage, func() *verdict.Verdict { v := allowing(); v.Code = code.Unsigned; return v }, code.GateDown},
		{"refused by a code that allows", signedImage, func() *verdict.Verdict { v := allowing(); v.Allow = false; return v }, code.GateDown},
		{"allowed by an unknown code", signedImage, func() *verdict.Verdict { v := allowing(); v.Code = "FINE"; return v }, code.GateDown},
		{"an image ID", strings.Repeat("ab", 32), allowing, code.BadReference},
		{"a name as long as may be", "registry.example/" + strings.Repeat("a", verdict.MaxName-17), allowing, ""},
		{"a longer name", "registry.example/" + strings.Repeat("a", verdict.MaxName-16), allowing, code.BadReference},
	} {
		t.Run(test.name, func(t *testing.T) {
			engine := newJudging()
			engine.judge = func(context.Context, string) *verdict.Verdict { return test.judge() }
			one := newVerdicts(engine, time.Minute).on(t.Context(), []string{test.image})[0]
			if allows(one) != (test.want == "") || test.want != "" && !strings.Contains(one.Error, ": "+string(test.want)+": ") {
				t.Errorf("%+v", one)
			}
		})
	}
}

func TestWhatHasNoVerdictInTimeIsRefused(t *testing.T) {
	engine := newJudging()
	release := make(chan struct{})
	judge := engine.judge
	engine.judge = func(ctx context.Context, image string) *verdict.Verdict {
		<-release
		return judge(ctx, image)
	}
	v := newVerdicts(engine, 0)
	if err := v.judging.Acquire(t.Context(), maxJudging-1); err != nil { // others' images
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // its time is over
	close(release)
	if one := v.on(t.Context(), []string{signedImage})[0]; !allows(one) {
		t.Errorf("with room and time: %+v", one)
	}
	if err := v.judging.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if one := v.on(ctx, []string{signedImage})[0]; allows(one) || !strings.Contains(one.Error, ": TIMEOUT: ") {
		t.Errorf("without: %+v", one)
	}
}

// What comes from a pod is shown, and must not deceive.
func TestWhatIsRepeatedIsClean(t *testing.T) {
	image := strings.Repeat("ab", 32)[:62] + "\x1b\u202e"
	if one := refuse(image, code.Refuse(code.BadReference, "x", "", "")); strings.ContainsAny(one.Error, "\x1b\u202e") || !strings.Contains(one.Error, `\u001b`) || one.Key != image {
		t.Errorf("%q for %q", one.Error, one.Key)
	}
}

func TestAnAnswerIsGivenAgain(t *testing.T) {
	for _, test := range []struct {
		name  string
		keep  time.Duration
		until time.Duration // when what it rests on ends, from now; 0: never
		image string
		then  func(j *judging)
		judge int // judgements of two questions
	}{
		{"one that allows", time.Minute, 0, signedImage, nil, 1},
		{"one that holds on", time.Minute, time.Hour, signedImage, nil, 1},
		{"never, where none is kept", 0, 0, signedImage, nil, 2},
		{"never one that refuses", time.Minute, 0, unsignedImage, nil, 2},
		{"not after its time", time.Nanosecond, 0, signedImage, nil, 2},
		{"not after what it rests on has ended", time.Minute, -time.Second, signedImage, nil, 2},
		{"not under another policy", time.Minute, 0, signedImage, func(j *judging) { j.policy = "sha256:other" }, 2},
		{"not where no policy is in force", time.Minute, 0, signedImage, func(j *judging) { j.policy = "" }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			engine := newJudging()
			judge := engine.judge
			engine.judge = func(ctx context.Context, image string) *verdict.Verdict {
				v := judge(ctx, image)
				if test.until != 0 {
					v.Until = time.Now().Add(test.until)
				}
				return v
			}
			v := newVerdicts(engine, test.keep)
			first := v.on(t.Context(), []string{test.image})[0]
			if test.then != nil {
				engine.set(func() { test.then(engine) })
			}
			second := v.on(t.Context(), []string{test.image})[0]
			if engine.count() != test.judge || allows(first) != allows(second) {
				t.Errorf("%d judgements, %+v, %+v", engine.count(), first, second)
			}
		})
	}
}
