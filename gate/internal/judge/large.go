package judge

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"

	"golang.org/x/sync/semaphore"
)

// Large attestations are judged one at a time, each in a process of its own with its own
// bounds, and what came of it is remembered on disk: the gate stays small, and a start
// waits for one of them at most once.

// ChildCommand is the subcommand of the gate's program that judges one.
const ChildCommand = "judge-large"

// Bounds of the child. It shares the memory of the gate's service (MemoryMax=512M); an
// SBOM of 16 MiB takes some 260 MiB.
const (
	childMemory  = 384 << 20 // bytes of data
	childGoal    = 192 << 20 // that the collector of garbage works for
	childSeconds = 20        // of a processor
	childAnswer  = 256 << 10 // bytes
	childSaid    = 64 << 10  // bytes of complaints

	remembered = 24 * time.Hour // how long an outcome is remembered at most
)

// stated is what a large bundle states, and what came of each attestation that the rule
// asks for.
type stated struct {
	Type     string          `json:"type"`
	Outcomes []statedOutcome `json:"outcomes"`
	Problem  string          `json:"problem,omitempty"` // why it states nothing
	Until    time.Time       `json:"until"`
}

type statedOutcome struct {
	Root     string          `json:"root,omitempty"` // who has signed it, if it is as the rule asks
	Expires  time.Time       `json:"expires,omitzero"`
	Findings []statedFinding `json:"findings,omitempty"`
}

type statedFinding struct {
	Code code.Code `json:"code"`
	Text string    `json:"text"`
}

// childRequest is what the child is told beside the policy and the bundle.
type childRequest struct {
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	Sum        string `json:"sum"`
	Policy     string `json:"policy"` // its hash
}

// isolated judges large attestations.
type isolated struct {
	turn   *semaphore.Weighted
	recall *recall // nil: nothing is remembered
}

func newIsolated(store *evidence.Store) *isolated {
	a := &isolated{turn: semaphore.NewWeighted(1)}
	if store != nil {
		a.recall = newRecall(store.Dir())
	}
	return a
}

// examine gives what came of a bundle that is too large for this process.
func (a *isolated) examine(ctx context.Context, p *policy.Policy, set evidence.Set, l evidence.Large) (*stated, error) {
	key := recallKey(p, set, l)
	if known := a.recall.get(key); known != nil {
		return known, nil
	}
	if err := a.turn.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer a.turn.Release(1)
	if known := a.recall.get(key); known != nil { // by whoever had the turn before
		return known, nil
	}
	found, err := runChild(ctx, p, set, l)
	if err != nil {
		return nil, err
	}
	found.Until = now().Add(remembered)
	for _, outcome := range found.Outcomes {
		if outcome.Root != "" {
			found.Until = earliest(found.Until, outcome.Expires)
		}
	}
	a.recall.put(key, found)
	return found, nil
}

// runChild has the gate's own program judge a bundle.
func runChild(ctx context.Context, p *policy.Policy, set evidence.Set, l evidence.Large) (*stated, error) {
	file, err := os.OpenFile(l.Path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	request, err := json.Marshal(childRequest{set.Repository, set.Digest, l.Sum, p.Hash})
	if err != nil {
		return nil, err
	}
	said, answer := &bounded.Buffer{Left: childSaid}, &bounded.Buffer{Left: childAnswer}
	child := exec.CommandContext(ctx, "/proc/self/exe", ChildCommand)
	child.Env = []string{fmt.Sprintf("GOMEMLIMIT=%d", childGoal), "GOMAXPROCS=1"}
	child.Stdin = bytes.NewReader(slices.Concat(request, []byte("\n"), p.Document))
	child.Stdout, child.Stderr = answer, said
	child.ExtraFiles = []*os.File{file}
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	child.WaitDelay = time.Second
	if err := child.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("the process that judges it ended with %v: %s", err, bounded.Text(said.Kept.String(), 300))
	}
	found := &stated{}
	return found, json.Unmarshal(answer.Kept.Bytes(), found)
}

// examineLarge gives what a trial knows of a large bundle, from its first look on.
func (t *trial) examineLarge(ctx context.Context, set evidence.Set, l evidence.Large) *stated {
	name := set.Digest + " " + l.Sum
	if known := t.large[name]; known != nil {
		return known
	}
	var found *stated
	var err error
	_ = t.turn.Without(ctx, func() { found, err = t.isolated.examine(ctx, t.policy, set, l) }) // whether the context ended is asked below
	switch {
	case ctx.Err() != nil:
		return &stated{Problem: "there was no time to judge it"}
	case err != nil:
		found = &stated{Problem: err.Error()}
	case found.Problem == "" && len(found.Outcomes) != len(t.rule.Attestations):
		found = &stated{Problem: "what is known of it is of another rule"}
	}
	t.large[name] = found
	return found
}

// attestedLarge looks for an attestation among those that are too large for this process.
func (t *trial) attestedLarge(ctx context.Context, a policy.Attestation, o *Outcome) (satisfied, bool) {
	for _, set := range t.sets {
		for _, l := range set.Large {
			o.Verified = true
			found := t.examineLarge(ctx, set, l)
			outcome, ok := t.of(found, a)
			if ok && outcome.Root != "" && (outcome.Expires.IsZero() || now().Before(outcome.Expires)) {
				return satisfied{root: outcome.Root, format: formatBundle, digest: set.Digest, expires: earliest(found.Until, outcome.Expires)}, true
			}
		}
	}
	return satisfied{}, false
}

// of gives what came of one attestation that the rule asks for, if the bundle is of its type.
func (t *trial) of(found *stated, a policy.Attestation) (statedOutcome, bool) {
	for i, asked := range t.rule.Attestations {
		if i < len(found.Outcomes) && found.Type == a.Type && asked.Equal(a) {
			return found.Outcomes[i], true
		}
	}
	return statedOutcome{}, false
}

func (t *trial) diagnoseLarge(ctx context.Context, a policy.Attestation) (findings []finding) {
	for _, set := range t.sets {
		for _, l := range set.Large {
			found := t.examineLarge(ctx, set, l)
			if found.Problem != "" {
				findings = append(findings, finding{code.Malformed, fmt.Sprintf("bundle %.12s of %d bytes: %s", l.Sum, l.Size, found.Problem)})
			}
			outcome, _ := t.of(found, a)
			for _, f := range outcome.Findings {
				findings = append(findings, finding{f.Code, f.Text})
			}
		}
	}
	return findings
}
