package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/registry"
)

// Bounds of what "inspect" looks at.
const (
	maxInspected      = 64 // digests of an image
	maxInspectedLevel = 3  // indexes in an index
	maxPlatform       = 64 // bytes of a platform's name
	inspectedVersion  = "countersign.inspected/v1"
)

// inspected is what hangs on an image.
type inspected struct {
	Version    string            `json:"version"`
	Image      string            `json:"image"` // as written
	Repository string            `json:"repository"`
	Policy     string            `json:"policy,omitempty"` // its hash
	Scope      string            `json:"scope,omitempty"`  // of the policy, that the repository is in
	Rule       string            `json:"rule,omitempty"`   // of that scope
	Digests    []inspectedDigest `json:"digests"`
}

// inspectedDigest is what hangs on one digest of an image.
type inspectedDigest struct {
	Digest     string           `json:"digest"`
	Kind       string           `json:"kind"` // index or manifest
	Platform   string           `json:"platform,omitempty"`
	Signatures []judge.Sighting `json:"signatures"`
	Problems   []string         `json:"problems"` // what is not complete, or cannot be used
}

// inspect prints what hangs on an image. It decides nothing: "verify" does.
func inspect(c *invocation) int {
	name, err := reference.Normalise(c.arguments[0])
	if err == nil && name.IDForm {
		err = errors.New("an image ID; expected a name: NAME:TAG or NAME@DIGEST")
	}
	var p *policy.Policy
	if err == nil && c.given.wanted() {
		p, err = c.given.load(c.arguments[0])
	}
	var source registry.Config
	done := func() error { return nil }
	if err == nil {
		source, done, err = c.given.source()
	}
	if err != nil {
		return c.misused(err)
	}
	found, err := inspectImage(p, source, name)
	if err = errors.Join(err, done()); err != nil {
		return c.fail(err)
	}
	found.Image = c.arguments[0]
	if err := c.document(found); err != nil {
		return c.fail(err)
	}
	return exitOK
}

func inspectImage(p *policy.Policy, source registry.Config, name reference.Name) (found *inspected, err error) {
	dir, err := os.MkdirTemp("", "countersign-inspect-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source.Spool = dir
	ctx, cancel := context.WithTimeout(context.Background(), inProcessVerdict)
	defer cancel()
	walk := &inspection{client: registry.New(source), policy: p, repository: name.Repository,
		found: &inspected{Version: inspectedVersion, Repository: name.Repository, Digests: []inspectedDigest{}}}
	if p != nil {
		walk.found.Policy = p.Hash
		if scope, rule, ok := p.Match(name.Repository); ok {
			walk.found.Scope, walk.found.Rule = scope, rule.String()
		}
	}
	tagOrDigest := name.Digest
	if tagOrDigest == "" {
		tagOrDigest = name.Tag
	}
	manifest, err := walk.client.Manifest(ctx, name.Repository, tagOrDigest)
	if err != nil {
		return nil, err
	}
	if err := walk.to(ctx, manifest, "", 0); err != nil {
		return nil, err
	}
	return walk.found, nil
}

// inspection is the way from a name to all digests of its image.
type inspection struct {
	client     *registry.Client
	policy     *policy.Policy
	repository string
	found      *inspected
}

// to looks at a manifest or index, and at what is in it.
func (w *inspection) to(ctx context.Context, m registry.Manifest, platform string, level int) error {
	document, err := bind.ParseDocument(m.Digest, m.Raw)
	if err != nil {
		return err
	}
	here := inspectedDigest{Digest: m.Digest, Kind: "manifest", Platform: platform, Problems: []string{}}
	if document.IsIndex {
		here.Kind = "index"
	}
	set, err := w.client.Fetch(ctx, w.repository, m.Digest, m.Raw, registry.EveryType)
	if err != nil {
		here.Problems = append(here.Problems, err.Error())
	}
	for _, problem := range set.Problems {
		here.Problems = append(here.Problems, string(problem.Code)+": "+problem.Found)
	}
	if here.Signatures, err = judge.Inspect(ctx, w.policy, set); err != nil {
		return err
	}
	for _, l := range set.Large {
		_ = os.Remove(l.Path) // the folder goes away in any case
	}
	at := len(w.found.Digests)
	w.found.Digests = append(w.found.Digests, here)
	for _, child := range document.Children {
		digest := child.Digest.String()
		named := platformName(child.Platform)
		if w.has(digest) || named == "unknown/unknown" { // BuildKit's attestations, which nobody signs as images
			continue
		}
		if level == maxInspectedLevel || len(w.found.Digests) == maxInspected {
			w.problem(at, fmt.Sprintf("more than %d levels or %d digests: what is beyond was not looked at", maxInspectedLevel, maxInspected))
			break
		}
		err := reference.CheckDigest(digest)
		var inside registry.Manifest
		if err == nil {
			inside, err = w.client.Manifest(ctx, w.repository, digest)
		}
		if err == nil {
			err = w.to(ctx, inside, named, level+1)
		}
		if err != nil {
			w.problem(at, fmt.Sprintf("%s: %v", bounded.Text(digest, 100), err))
		}
		if ctx.Err() != nil {
			w.problem(at, string(code.Timeout)+": there was no time for what else is in it")
			break
		}
	}
	return nil
}

// platformName is what people call a platform, of which an index may say anything.
func platformName(p *ocispec.Platform) string {
	if p == nil {
		return ""
	}
	return bounded.Text(strings.TrimSuffix(strings.Join([]string{p.OS, p.Architecture, p.Variant}, "/"), "/"), maxPlatform)
}

func (w *inspection) has(digest string) bool {
	for _, one := range w.found.Digests {
		if one.Digest == digest {
			return true
		}
	}
	return false
}

// problem notes something about the digest that was found at that place.
func (w *inspection) problem(at int, text string) {
	w.found.Digests[at].Problems = append(w.found.Digests[at].Problems, text)
}
