package engine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containerd/platforms"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// Pull gives the verdict on an image that containerd is about to pull.
func (e *Engine) Pull(ctx context.Context, request wire.PullRequest) *verdict.Verdict {
	s := subject{layer: verdict.Pull, name: request.Name, candidates: []bind.Candidate{{Index: request.Digest}}}
	return e.guard(ctx, e.Timeouts.Pull, s, func(ctx context.Context, s subject) *verdict.Verdict {
		name, err := reference.Normalise(request.Name)
		if err == nil {
			err = reference.CheckDigest(request.Digest)
		}
		switch {
		case err != nil:
			return e.refuse(s, code.Refuse(code.BadReference, err.Error(), "repository and digest", "pull the image by its name"))
		case name.IDForm:
			return e.refuse(s, code.Refuse(code.BadReference, fmt.Sprintf("%q could be an image ID", request.Name), "a full image name", "pull the image by its name"))
		case name.Digest != "" && name.Digest != request.Digest:
			return e.refuse(s, code.Refuse(code.NotWhatRuns, "the registry gave "+request.Digest, name.Digest+" as the name says", "look at the registry or its mirror"))
		}
		return e.resolved(ctx, s, name, request.Digest)
	})
}

// Verify gives the verdict on a reference, as a pull of it would get, with every
// step. A registry that can't be asked leaves what the node itself has under the name.
func (e *Engine) Verify(ctx context.Context, written string) *verdict.Verdict {
	s := subject{layer: verdict.Verify, name: written, trace: &verdict.Trace{}}
	return e.guard(ctx, e.Timeouts.Verdict, s, func(ctx context.Context, s subject) *verdict.Verdict {
		end := s.trace.Begin("reference")
		name, err := reference.Normalise(written)
		end(name.String(), err)
		if err != nil {
			return e.refuse(s, err)
		}
		s.repository = name.Repository
		if name.IDForm {
			return e.onNode(ctx, s)
		}
		if p := e.policy.Load(); refusesName(p.policy, name.Repository) {
			s.candidates = []bind.Candidate{{Index: name.Digest}}
			return e.judge(ctx, p, s)
		}
		tagOrDigest := name.Digest
		if tagOrDigest == "" {
			tagOrDigest = name.Tag
		}
		end = s.trace.Begin("resolve")
		manifest, err := e.Registry.Manifest(ctx, name.Repository, tagOrDigest)
		end(manifest.Digest, err)
		if err != nil {
			if s.candidates, _ = e.Binder.Lookup(ctx, written, s.trace); len(s.candidates) > 0 {
				return e.judge(ctx, e.policy.Load(), s)
			}
			if p := e.policy.Load(); name.Digest != "" && !needsMore(p.policy, name.Repository, name.Digest) {
				s.candidates = []bind.Candidate{{Index: name.Digest}} // as at a pull: the rule asks for no more
				return e.judge(ctx, p, s)
			}
			return e.refuse(s, err) // why the node has none is among the steps
		}
		s.raw = map[string][]byte{manifest.Digest: manifest.Raw}
		return e.resolved(ctx, s, name, manifest.Digest)
	})
}

// Carried is Verify for evidence that came without its image. Where the source lacks a
// manifest that an index names, the index is judged by what signs it alone: its
// manifests are on the node that runs them, and are judged at each start.
func (e *Engine) Carried(ctx context.Context, repository, digest string) *verdict.Verdict {
	written := repository + "@" + digest
	v := e.Verify(ctx, written)
	if v.Allow || v.Code != code.RegistryError {
		return v
	}
	s := subject{layer: verdict.Verify, name: written, repository: repository, trace: &verdict.Trace{}, candidates: []bind.Candidate{{Index: digest}}}
	return e.guard(ctx, e.Timeouts.Verdict, s, func(ctx context.Context, s subject) *verdict.Verdict {
		return e.judge(ctx, e.policy.Load(), s)
	})
}

// Explain is Verify for a reference; for a container it binds the live container
// and judges what it finds.
func (e *Engine) Explain(ctx context.Context, written string) *verdict.Verdict {
	name, err := reference.Normalise(written)
	if err != nil || !name.IDForm || strings.Contains(written, ":") {
		return e.Verify(ctx, written)
	}
	s := subject{layer: verdict.Verify, name: written, trace: &verdict.Trace{}}
	return e.guard(ctx, e.Timeouts.Verdict, s, func(ctx context.Context, s subject) *verdict.Verdict {
		state, err := e.Binder.Live(ctx, written)
		if err != nil {
			return e.refuse(s, err)
		}
		return e.live(ctx, s, state)
	})
}

// onNode judges what the node has under a name.
func (e *Engine) onNode(ctx context.Context, s subject) *verdict.Verdict {
	candidates, err := e.Binder.Lookup(ctx, s.name, s.trace)
	if err != nil {
		return e.refuse(s, err)
	}
	s.candidates = candidates
	return e.judge(ctx, e.policy.Load(), s)
}

// resolved judges a digest of a repository: an index together with this node's
// manifest in it, or a manifest. What the registry does not give is refused,
// unless the rule needs no more than the digest that is known.
func (e *Engine) resolved(ctx context.Context, s subject, name reference.Name, digest string) *verdict.Verdict {
	p := e.policy.Load()
	s.repository = name.Repository
	s.candidates = []bind.Candidate{{Index: digest}}
	if p.policy == nil {
		return e.refuse(s, p.refusal)
	}
	if refusesName(p.policy, name.Repository) {
		return e.judge(ctx, p, s) // by the digest that is known: its registry is not asked
	}
	end := s.trace.Begin("platform")
	candidate, raw, err := e.platform(ctx, name.Repository, digest, s.raw)
	end(fmt.Sprintf("index %q, manifest %s, config %s", candidate.Index, candidate.Manifest, candidate.Config), err)
	if err != nil {
		if needsMore(p.policy, name.Repository, digest) {
			return e.refuse(s, err)
		}
		candidate = bind.Candidate{Index: digest}
	}
	s.candidates, s.raw = []bind.Candidate{candidate}, raw
	v := e.judge(ctx, p, s)
	if s.layer == verdict.Pull && v.Code == code.AcceptedByScope {
		e.storeLater(name.Repository, candidate)
	}
	return v
}

// needsMore says whether a verdict on a bare digest would rest on signatures.
func needsMore(p *policy.Policy, repository, digest string) bool {
	_, decided := judge.ByPolicy(p, judge.Request{Repository: repository, Index: digest})
	return !decided
}

// refusesName says whether the policy refuses a repository whatever the image, but for
// a digest that is pinned by another name.
func refusesName(p *policy.Policy, repository string) bool {
	if p == nil {
		return true
	}
	if p.PinsIn(repository) {
		return false
	}
	o, decided := judge.ByPolicy(p, judge.Request{Repository: repository})
	return decided && !o.Allow
}

// storeLater keeps the signatures of an image that is pulled under a rule that asks for
// none, so that a stricter rule later finds them on the node. Nothing depends on it and
// no pull waits for it; while enough is being stored, no more is begun.
func (e *Engine) storeLater(repository string, c bind.Candidate) {
	select {
	case e.storing <- struct{}{}:
	default:
		slog.Info("signatures not stored: enough others are", "repository", repository, "digest", c.Manifest)
		return
	}
	go func() {
		defer func() { <-e.storing }()
		ctx, cancel := context.WithTimeout(context.Background(), e.Timeouts.Pull)
		defer cancel()
		for _, digest := range []string{c.Index, c.Manifest} {
			if digest == "" {
				continue
			}
			if _, _, err := e.Collector.Collect(ctx, repository, digest); err != nil {
				slog.Info("signatures not stored", "repository", repository, "digest", digest, "error", err)
			}
		}
	}()
}

// Bounds of the way from an index to this node's manifest.
const (
	maxLevels    = 3  // indexes inside indexes, as package bind has it
	maxDocuments = 16 // that are asked for
)

// platform finds this node's manifest behind a digest, as containerd does: of an
// index the manifest that its default platform matches best, also where that stands
// in an index of the index.
func (e *Engine) platform(ctx context.Context, repository, digest string, known map[string][]byte) (bind.Candidate, map[string][]byte, error) {
	d := descent{engine: e, repository: repository, known: known, raw: map[string][]byte{}}
	manifest, config, err := d.to(ctx, digest, 0)
	if err == nil && manifest == "" {
		err = code.Refuse(code.Malformed, digest+" has no manifest for "+platforms.DefaultString(), "an image for this node's platform", "build the image for it")
	}
	candidate := bind.Candidate{Index: digest, Manifest: manifest, Config: config}
	if manifest == digest {
		candidate.Index = ""
	}
	if err != nil {
		return bind.Candidate{}, nil, err
	}
	return candidate, d.raw, nil
}

// descent is the way from an index to a manifest in it.
type descent struct {
	engine     *Engine
	repository string
	known      map[string][]byte
	raw        map[string][]byte // what was read
}

// to gives the manifest at or below a digest, and its config; none where the index has
// none for this node's platform.
func (d *descent) to(ctx context.Context, digest string, level int) (manifest, config string, err error) {
	if level > maxLevels || len(d.raw) == maxDocuments {
		return "", "", code.Refuse(code.Malformed, fmt.Sprintf("the way to %s has more than %d levels of indexes or %d documents", digest, maxLevels, maxDocuments),
			"an index of manifests", "build the image with a current tool")
	}
	document, err := d.read(ctx, digest)
	if err != nil {
		return "", "", err
	}
	if !document.IsIndex {
		return digest, document.Config, nil
	}
	for _, child := range matching(document.Children) {
		manifest, config, err = d.to(ctx, child.Digest.String(), level+1)
		if err != nil || manifest != "" {
			return manifest, config, err
		}
	}
	return "", "", nil
}

func (d *descent) read(ctx context.Context, digest string) (*bind.Document, error) {
	if err := reference.CheckDigest(digest); err != nil { // an index can say anything, and it becomes part of a URL
		return nil, code.Refuse(code.Malformed, "the index lists "+err.Error(), "a sha256 digest", "build the image with a current tool")
	}
	content, ok := d.known[digest]
	if !ok {
		m, err := d.engine.Registry.Manifest(ctx, d.repository, digest)
		if err != nil {
			return nil, err
		}
		content = m.Raw
	}
	d.raw[digest] = content
	return bind.ParseDocument(digest, content)
}

// matching gives the children for this node's platform, or for any, the best first.
func matching(children []ocispec.Descriptor) []ocispec.Descriptor {
	matcher := platforms.Default()
	var matching []ocispec.Descriptor
	for _, c := range children {
		if c.Platform == nil || matcher.Match(*c.Platform) {
			matching = append(matching, c)
		}
	}
	slices.SortStableFunc(matching, func(a, b ocispec.Descriptor) int {
		switch {
		case a.Platform == nil && b.Platform == nil:
			return 0
		case a.Platform == nil:
			return 1
		case b.Platform == nil:
			return -1
		case matcher.Less(*a.Platform, *b.Platform):
			return -1
		case matcher.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	return matching
}
