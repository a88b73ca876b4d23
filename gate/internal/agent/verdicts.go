package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/code"
	"countersign/gate/internal/prove"
	"countersign/gate/internal/verdict"
)

// Bounds on what is read of a log at once, and on what is remembered and told of it.
const (
	maxRead     = 8 << 20
	maxObserved = 512 // images by code
	maxTold     = 32
)

// Refusal is what was refused, or would have been.
type Refusal struct {
	Time    time.Time     `json:"time"` // of the last one
	Layer   verdict.Layer `json:"layer,omitempty"`
	Code    code.Code     `json:"code"`
	Image   string        `json:"image"`
	Pod     string        `json:"pod,omitempty"`
	Message string        `json:"message,omitempty"`
	Count   int           `json:"count,omitempty"`
}

// Observed says what a node that observes has seen.
type Observed struct {
	Since   time.Time `json:"since"`
	Judged  int       `json:"judged"`  // containers
	Refused int       `json:"refused"` // that would have been
	// Images are those, by image and code, the most frequent first; Images of more are not shown.
	Images []Refusal `json:"images,omitempty"`
	More   int       `json:"more,omitempty"`
}

// Halt says why no further node is to enforce for now. What enforces goes on.
type Halt struct {
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// noVerdict are the codes that say nothing of the image: nobody knows whether the policy
// would have allowed it.
var noVerdict = []code.Code{code.GateDown, code.Timeout, code.RuntimeUnreachable, code.PolicyInvalid, code.RegistryError, code.RegistryAuth, code.NoEvidenceOffline}

func refusal(v verdict.Verdict) Refusal {
	return Refusal{
		Time: v.Time.UTC().Truncate(time.Second), Layer: v.Layer, Code: v.Code, Image: clean.Line(v.Image, verdict.MaxName),
		Pod: clean.Line(v.Pod, verdict.MaxName), Message: clean.Line(v.Message, maxShown),
	}
}

// observed adds what a node that observes has judged.
func (a *agent) observed(verdicts []verdict.Verdict) {
	for _, v := range verdicts {
		a.seen.Judged++
		if v.Allow {
			continue
		}
		a.seen.Refused++
		one := refusal(v)
		same := func(r Refusal) bool { return r.Image == one.Image && r.Code == one.Code }
		at := slices.IndexFunc(a.seen.Images, same)
		switch {
		case at >= 0:
			one.Count = a.seen.Images[at].Count + 1
			a.seen.Images[at] = one
		case len(a.seen.Images) < maxObserved:
			one.Count = 1
			a.seen.Images = append(a.seen.Images, one)
		default:
			a.seen.More++
		}
	}
}

// report gives what is told of it.
func (o Observed) report() *Observed {
	o.Images = slices.Clone(o.Images)
	slices.SortStableFunc(o.Images, func(a, b Refusal) int { return b.Count - a.Count })
	if over := len(o.Images) - maxTold; over > 0 {
		o.More += over
		o.Images = o.Images[:maxTold]
	}
	return &o
}

// complaints takes up what a node that enforces has refused. On a canary each image is
// asked about anew: one that the policy allows, or of which nothing is known, halts the
// roll-out.
func (a *agent) complaints(ctx context.Context, state *State, canary bool) {
	a.changing.Lock()
	defer a.changing.Unlock()
	verdicts, err := a.Host.Refused()
	if err != nil {
		slog.Warn("the verdict log is not read", "error", err)
	}
	for _, v := range verdicts {
		if v.Allow || strings.HasPrefix(v.Image, prove.Registry+"/") {
			continue
		}
		one := refusal(v)
		a.last = &one
		if a.PodEvents {
			a.pods.add(v)
		}
		if canary && a.halt == nil {
			a.halt = a.complaint(ctx, v, one)
		}
	}
	state.LastRefusal, state.Halt = a.last, a.halt
}

func (a *agent) complaint(ctx context.Context, v verdict.Verdict, one Refusal) *Halt {
	name := v.Image
	if digest := v.Manifest; digest != "" && v.Repository != "" {
		name = v.Repository + "@" + digest
	}
	again, err := a.Host.Verify(ctx, name)
	halt := &Halt{Since: time.Now().UTC().Truncate(time.Second)}
	pod := one.Image
	if one.Pod != "" {
		pod += " of " + one.Pod
	}
	switch {
	case err == nil && again.Allow:
		halt.Reason = "AllowedRefused"
		halt.Message = pod + " was refused (" + string(one.Code) + "), and the policy allows it: see countersign-gate verify " + name + " on this node"
	case slices.Contains(noVerdict, one.Code):
		halt.Reason = "NoVerdict"
		halt.Message = pod + " was refused for want of a verdict: " + string(one.Code) + ": " + one.Message
	default:
		return nil
	}
	halt.Message = clean.Line(halt.Message, maxShown)
	slog.Error("the roll-out halts", "reason", halt.Reason, "message", halt.Message)
	return halt
}

// tail reads what is added to a log of verdicts.
type tail struct {
	path   string
	offset int64
	file   os.FileInfo
}

// next gives the verdicts since the last call. Of a log that was rotated meanwhile, what
// the older file had at its end is lost; a line that is not whole yet comes later.
func (t *tail) next() ([]verdict.Verdict, error) {
	file, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if t.file == nil || !os.SameFile(t.file, info) || info.Size() < t.offset {
		t.offset = 0
	}
	t.file = info
	content, err := io.ReadAll(io.NewSectionReader(file, t.offset, maxRead))
	if err != nil {
		return nil, err
	}
	var found []verdict.Verdict
	for {
		line, rest, whole := bytes.Cut(content, []byte("\n"))
		if !whole {
			if len(content) == maxRead { // one line: none of the gate's
				t.offset += maxRead
			}
			return found, nil
		}
		t.offset += int64(len(line)) + 1
		content = rest
		var v verdict.Verdict
		if json.Unmarshal(line, &v) == nil && v.Version == verdict.Version {
			found = append(found, v)
		}
	}
}

// end has what is in the log by now be left out.
func (t *tail) end() {
	if info, err := os.Stat(t.path); err == nil {
		t.file, t.offset = info, info.Size()
	}
}
