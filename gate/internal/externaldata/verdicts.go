package externaldata

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/lru"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
)

// Bounds of the work.
const (
	maxJudging    = 16   // images at once, of all requests
	maxRemembered = 1024 // answers
)

// Engine judges images (package engine).
type Engine interface {
	Verify(ctx context.Context, written string) *verdict.Verdict
	PolicyHash() string
}

// verdicts gives answers, and for a few seconds the same again.
type verdicts struct {
	engine     Engine
	keep       time.Duration // how long an answer that allows may be given again
	judging    *semaphore.Weighted
	remembered *lru.Cache[string, remembered]
}

// remembered is an answer that allows, under the policy in it.
type remembered struct {
	value Value
	end   time.Time
}

func newVerdicts(engine Engine, keep time.Duration) *verdicts {
	return &verdicts{engine: engine, keep: keep, judging: semaphore.NewWeighted(maxJudging),
		remembered: lru.New[string, remembered](maxRemembered)}
}

// on gives an item for each image. They are judged side by side, and what has no
// verdict when the context ends is refused.
func (v *verdicts) on(ctx context.Context, images []string) []item {
	items := make([]item, len(images))
	var group errgroup.Group
	group.SetLimit(maxJudging)
	for i, image := range images {
		group.Go(func() error {
			items[i] = v.one(ctx, image)
			return nil
		})
	}
	_ = group.Wait() // what goes wrong is an item
	return items
}

func (v *verdicts) one(ctx context.Context, image string) item {
	if known, ok := v.remembered.Get(image); ok && known.value.Policy == v.engine.PolicyHash() && time.Now().Before(known.end) {
		return item{Key: image, Value: &known.value}
	}
	if len(image) > verdict.MaxName {
		return refuse(image, code.Refuse(code.BadReference, "a name of more than an image's length", "NAME:TAG or NAME@DIGEST", "correct the pod's image"))
	}
	if name, err := reference.Normalise(image); err == nil && name.IDForm {
		return refuse(image, code.Refuse(code.BadReference, "an image ID, which no registry knows", "an image's name", "name the image by NAME:TAG or NAME@DIGEST"))
	}
	if err := v.judging.Acquire(ctx, 1); err != nil {
		return refuse(image, code.Refuse(code.Timeout, "too many images are being judged", "a verdict in time", "try again"))
	}
	defer v.judging.Release(1)
	judged := v.engine.Verify(ctx, image)
	if judged == nil || !judged.Allow || !judged.Code.Allows() {
		return refusedBy(image, judged)
	}
	value := Value{Allow: true, Code: judged.Code, Digest: digest(judged), Policy: judged.Policy}
	v.keepFor(image, value, judged.Until)
	return item{Key: image, Value: &value}
}

// keepFor remembers an answer that allows, for no longer than what it rests on holds.
// One that refuses is not remembered: an image that is signed meanwhile is judged anew.
func (v *verdicts) keepFor(image string, value Value, until time.Time) {
	end := time.Now().Add(v.keep)
	if !until.IsZero() && until.Before(end) {
		end = until
	}
	if v.keep > 0 && value.Policy != "" {
		v.remembered.Put(image, remembered{value, end})
	}
}

func digest(v *verdict.Verdict) string {
	if v.Index != "" {
		return v.Index
	}
	return v.Manifest
}

func refuse(image string, why *code.Refusal) item {
	return item{Key: image, Error: "countersign: refused " + bounded.Text(image, verdict.MaxName) + ": " + why.Error()}
}

// refusedBy gives the item of a verdict that does not allow.
func refusedBy(image string, v *verdict.Verdict) item {
	if v == nil || v.Allow || v.Code.Allows() || v.Message == "" {
		return refuse(image, code.Refuse(code.GateDown, "no verdict that can be understood", "a verdict", "look at the provider's log and report a bug"))
	}
	return item{Key: image, Error: v.Message}
}
