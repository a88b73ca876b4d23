package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/reference"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bundleTypes are what bundles are called that lie beside an image: cosign 3 and GitHub
// write the first, clients before bundle v0.3 the others.
var bundleTypes = []string{
	"application/vnd.dev.sigstore.bundle.v0.3+json",
	"application/vnd.dev.sigstore.bundle+json;version=0.3",
	"application/vnd.dev.sigstore.bundle+json;version=0.2",
	"application/vnd.dev.sigstore.bundle+json;version=0.1",
}

const (
	// signatureType is what cosign calls simple signing that is stored as a referrer.
	signatureType = "application/vnd.dev.cosign.artifact.sig.v1+json"

	// signPredicate is what a bundle is about that is the signature of an image.
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

const (
	maxPages    = 256 // of a list of referrers
	maxReferrer = 128 << 10
)

// referred gets the bundles, signatures and envelopes among what refers to the digest:
// what the API lists, or what the referrers tag schema lists, or both, for either may
// lack what the other has (OCI distribution spec, "Listing Referrers").
func (f *fetch) referred(ctx context.Context, api, tag bool) error {
	// A long list may not use up the time to read what is in it.
	listing, cancel := withPart(ctx)
	defer cancel()
	listed, byTag := newShortlist(), newShortlist()
	var failures [2]error
	var wait sync.WaitGroup
	if api && f.lists(f.referrersNeed) {
		wait.Go(func() { failures[0] = f.referrersAPI(listing, func(d descriptor) { listed.referrer(d, f.types) }) })
	}
	if q := f.tagged(""); tag && f.lists(q.needs) {
		wait.Go(func() {
			found := false
			if _, found, failures[1] = f.list(listing, q, "manifests", func(d descriptor) { byTag.referrer(d, f.types) }); !found && failures[1] == nil {
				byTag = newShortlist()
			}
		})
	}
	wait.Wait()
	listed.merge(byTag)
	signatures, attestations := f.referrers.take(f, listed)
	read := func(d descriptor) (content, error) { return f.referrer(ctx, d) }
	found := united(each(f, signatures, read))
	attested := united(each(f, attestations, read))
	stated, large := f.apart(attested.bundles)
	unnamed, largeToo := f.apart(found.bundles)
	of := f.referrers
	f.keepBundles(ctx, append(f.fit("bundles", unnamed, of.bundles), f.fit("attestations", stated, of.stated)...))
	f.keepLarge(ctx, append(large, largeToo...), nil)
	f.keepAttachments(ctx, append(found.signatures, attested.signatures...), of.signatures)
	f.keepEnvelopes(ctx, append(found.envelopes, attested.envelopes...), of.envelopes)
	return errors.Join(failures[:]...)
}

// keepBundles reads bundles.
func (f *fetch) keepBundles(ctx context.Context, layers []descriptor) {
	read := each(f, layers, func(layer descriptor) (evidence.Bundle, error) {
		content, err := f.layer(ctx, layer, nil)
		return evidence.Bundle{JSON: content}, err
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bundles = append(f.bundles, read...)
}

// referrer adds a referrer: what is most likely a signature goes first, so that no
// number of others hides it, and a bundle that says to be about something else
// does not count, unless it is an attestation of one of those types. The annotations are
// needed for nothing more.
func (s *shortlist) referrer(d descriptor, types []string) {
	var annotations struct {
		Predicate string `json:"dev.sigstore.bundle.predicateType"`
	}
	_ = json.Unmarshal(d.Annotations, &annotations) // what is not an annotation says nothing
	d.Annotations, d.Data = nil, nil
	switch {
	case annotations.Predicate == signPredicate || annotations.Predicate == "" && d.ArtifactType == signatureType:
		s.add(0, d)
	case slices.Contains(types, annotations.Predicate), annotations.Predicate != "" && slices.Contains(types, EveryType):
		s.attestation(d)
	case annotations.Predicate != "":
	case slices.Contains(bundleTypes, d.ArtifactType), d.ArtifactType == notationType:
		s.add(1, d)
	case d.ArtifactType == "", d.ArtifactType == ocispec.MediaTypeEmptyJSON:
		s.add(2, d)
	default:
		s.add(3, d)
	}
}

// content is what one referrer holds.
type content struct{ bundles, signatures, envelopes []descriptor }

func united(contents []content) (all content) {
	for _, c := range contents {
		all.bundles = append(all.bundles, c.bundles...)
		all.signatures = append(all.signatures, c.signatures...)
		all.envelopes = append(all.envelopes, c.envelopes...)
	}
	return all
}

// referrer reads the manifest of one referrer. It counts by its own artifact type:
// lists are known to be wrong about it (cosign writes the type of the empty config
// there).
func (f *fetch) referrer(ctx context.Context, d descriptor) (content, error) {
	if err := reference.CheckDigest(d.Digest); err != nil {
		return content{}, malformed("referrer: "+bounded.Text(err.Error(), 200), "a sha256 digest")
	}
	manifest, found, err := f.manifest(ctx, d.Digest, maxReferrer)
	if err != nil || !found {
		return content{}, err // a list may name what was deleted since
	}
	var image struct {
		ArtifactType string `json:"artifactType"`
		Config       struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
		Subject struct {
			Digest string `json:"digest"`
		} `json:"subject"`
		Layers json.RawMessage `json:"layers"`
	}
	err = json.Unmarshal(manifest.Raw, &image)
	var layers []descriptor
	var more bool
	if err == nil {
		layers, more, err = bounded.List[descriptor](image.Layers, maxSignatures)
	}
	if err != nil || more {
		return content{}, malformed(fmt.Sprintf("referrer %s: %v", d.Digest, err), fmt.Sprintf("an image manifest of at most %d layers", maxSignatures))
	}
	if image.ArtifactType == "" {
		image.ArtifactType = image.Config.MediaType
	}
	bundled := slices.Contains(bundleTypes, image.ArtifactType)
	if !bundled && image.ArtifactType != signatureType && image.ArtifactType != notationType {
		return content{}, nil
	}
	if image.Subject.Digest != f.digest {
		return content{}, malformed("referrer "+d.Digest+" has another subject", f.digest)
	}
	if bundled {
		if len(layers) != 1 || !slices.Contains(bundleTypes, layers[0].MediaType) {
			return content{}, malformed(fmt.Sprintf("referrer %s has %d layers", d.Digest, len(layers)), "one, of type "+bundleTypes[0])
		}
		return content{bundles: layers}, nil
	}
	if image.ArtifactType == notationType {
		return notationContent(d, layers)
	}
	var c content
	for _, layer := range layers {
		if layer.MediaType == simpleSigning && f.annotated(layer, maxContent) {
			c.signatures = append(c.signatures, layer)
		}
	}
	return c, nil
}

// referrersAPI lists what refers to the digest. Where that is more than is read,
// it asks for the types alone that count, if the registry can filter by them.
func (f *fetch) referrersAPI(ctx context.Context, add func(descriptor)) error {
	whole, err := f.pages(ctx, "", add)
	if whole || err != nil {
		return err
	}
	for _, artifactType := range append(slices.Clone(bundleTypes), signatureType, notationType) {
		part, err := f.pages(ctx, artifactType, add)
		if err != nil {
			return err
		}
		whole = part
		if !whole {
			break
		}
	}
	if !whole {
		f.found(malformed(fmt.Sprintf("%s has more than %d pages of referrers", f.digest, maxPages), "a shorter list"))
	}
	return nil
}

// pages lists referrers page by page, and says whether that was all of them. With
// an artifactType it reads on only where the registry filters.
func (f *fetch) pages(ctx context.Context, artifactType string, add func(descriptor)) (whole bool, err error) {
	q := query{
		path: "referrers/" + f.digest, accept: indexType, needs: f.referrersNeed,
		// What registries without the API are known to answer.
		missing: []int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented},
		media:   indexType,
	}
	if artifactType != "" {
		q.query = url.Values{"artifactType": {artifactType}}
	}
	for range maxPages {
		r, found, err := f.list(ctx, q, "manifests", add)
		if err == nil {
			f.habits.saw(f.hosts[0].Host, found)
		}
		if err != nil || !found {
			return true, err
		}
		if artifactType != "" && !strings.Contains(r.header.Get("OCI-Filters-Applied"), "artifactType") {
			return false, nil
		}
		if q.query = nextPage(r.header.Get("Link")); q.query == nil {
			return true, nil
		}
	}
	return false, nil
}

// nextPage gives the query of the next page in a Link header (RFC 8288), or nil.
// Only the query counts: a server sends the gate to no other place.
func nextPage(link string) url.Values {
	target, parameters, ok := strings.Cut(link, ">")
	target, found := strings.CutPrefix(strings.TrimSpace(target), "<")
	if !ok || !found || !strings.Contains(strings.ReplaceAll(parameters, `"`, ""), "rel=next") {
		return nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil
	}
	return u.Query()
}

// referrersNeed is what a host must be good for to be asked for referrers. A
// hosts.toml that lists capabilities and was written before containerd knew this
// one means no host to be without it.
func referrersNeed(hosts []docker.RegistryHost) docker.HostCapabilities {
	const needs = docker.HostCapabilityPull | docker.HostCapabilityReferrers
	for _, host := range hosts {
		if host.Capabilities.Has(needs) {
			return needs
		}
	}
	return docker.HostCapabilityPull
}
