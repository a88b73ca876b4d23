package judge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
)

// Child judges one large attestation, in a process of its own: stdin has a request and
// the policy, bundle the document. It writes what came of it to stdout.
func Child(stdin io.Reader, bundle io.Reader, stdout io.Writer) error {
	if err := confine(); err != nil {
		return err
	}
	r := bufio.NewReader(io.LimitReader(stdin, policy.MaxSize+maxChildRequest))
	line, err := r.ReadBytes('\n')
	var request childRequest
	if err == nil {
		err = json.Unmarshal(line, &request)
	}
	if err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	document, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	p, err := policy.Parse(document)
	if err != nil {
		return err
	}
	if p.Hash != request.Policy {
		return fmt.Errorf("the policy has the hash %s, not %s", p.Hash, request.Policy)
	}
	found, err := state(p, request, bundle)
	if err != nil {
		return err
	}
	return json.MarshalWrite(stdout, found)
}

const maxChildRequest = 8 << 10 // bytes

// confine bounds this process. A service's filter of system calls may not let it: then
// the bound is the service's own, and this process is the first to go.
func confine() error {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil && !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for resource, limit := range map[int]uint64{syscall.RLIMIT_DATA: childMemory, syscall.RLIMIT_CPU: childSeconds, syscall.RLIMIT_CORE: 0} {
		err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: limit, Max: limit})
		if err != nil && !errors.Is(err, syscall.EPERM) {
			return err
		}
	}
	return nil
}

// state judges a bundle for all attestations that the rule of the repository asks for.
func state(p *policy.Policy, request childRequest, bundle io.Reader) (*stated, error) {
	content, err := readLarge(bundle)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != request.Sum {
		return &stated{Problem: fmt.Sprintf("its digest is sha256:%x, not that in its name", sum)}, nil
	}
	_, rule, ok := p.Match(request.Repository)
	if !ok {
		return nil, errors.New("no scope of the policy has the repository " + request.Repository)
	}
	known, err := New(evidence.Collector{}).verifiers(p)
	if err != nil {
		return nil, err
	}
	set := evidence.Set{Repository: request.Repository, Digest: request.Digest, Bundles: []evidence.Bundle{{JSON: content}}}
	t := trial{rule: rule, known: known, sets: []evidence.Set{set}, wanted: rule.Types(), policy: p,
		seen: seen{map[string]*readBundle{}, map[string]*certified{}, map[string]*readEnvelope{}, maxStatedLarge}}
	found := &stated{}
	for _, a := range rule.Attestations {
		found.Outcomes = append(found.Outcomes, t.outcome(context.Background(), a))
	}
	for _, b := range t.seen.read {
		found.Type = b.statement.predicateType
		if b.err != nil && found.Type == "" {
			found.Problem = bounded.Text(b.err.Error(), maxFinding)
		}
	}
	return found, nil
}

func (t *trial) outcome(ctx context.Context, a policy.Attestation) (outcome statedOutcome) {
	m, ok := t.attested(ctx, a, &Outcome{})
	if ok {
		return statedOutcome{Root: m.root, Expires: m.expires}
	}
	for i, f := range t.diagnoseAttestation(ctx, a) {
		if i == maxDetails {
			break
		}
		outcome.Findings = append(outcome.Findings, statedFinding{f.code, bounded.Text(f.text, maxFinding)})
	}
	return outcome
}

func readLarge(bundle io.Reader) ([]byte, error) {
	var content bytes.Buffer
	if file, ok := bundle.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Size() <= evidence.MaxLarge {
			content.Grow(int(info.Size()) + bytes.MinRead)
		}
	}
	n, err := content.ReadFrom(io.LimitReader(bundle, evidence.MaxLarge+1))
	if err == nil && n > evidence.MaxLarge {
		err = fmt.Errorf("more than %d bytes", evidence.MaxLarge)
	}
	return content.Bytes(), err
}
