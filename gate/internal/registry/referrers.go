package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/reference"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

const (
	maxPages  = 8    // of a list of referrers
	maxListed = 4096 // referrers or layers; of these, maxSignatures are read
)

// bundles gets the Sigstore bundles that refer to the digest.
func (f *fetch) bundles(ctx context.Context) ([]evidence.Bundle, error) {
	listed, err := f.referrers(ctx)
	if err != nil {
		return nil, err
	}
	layers := each(f, cut(f, "referrers", listed), func(referrer ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		return f.bundleLayer(ctx, referrer)
	})
	return each(f, f.fit("bundles", slices.Concat(layers...)), func(layer ocispec.Descriptor) (evidence.Bundle, error) {
		content, err := f.blob(ctx, layer.Digest.String(), layer.Size)
		return evidence.Bundle{JSON: content}, err
	}), nil
}

// bundleLayer reads one referrer, and gives its layer if it is a bundle. It counts
// by its own artifact type: lists are known to be wrong about it (cosign writes
// the type of the empty config there).
func (f *fetch) bundleLayer(ctx context.Context, referrer ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	digest := referrer.Digest.String()
	if err := reference.CheckDigest(digest); err != nil {
		return nil, malformed("referrer: "+err.Error(), "a sha256 digest")
	}
	manifest, found, err := f.manifest(ctx, digest, maxReferrer)
	if err != nil || !found {
		return nil, err // a list may name what was deleted since
	}
	image, err := f.parsed(manifest.Raw)
	if err != nil {
		return nil, malformed(fmt.Sprintf("referrer %s: %v", digest, err), "an image manifest")
	}
	if image.ArtifactType != bundleType && (image.ArtifactType != "" || image.Config.MediaType != bundleType) {
		return nil, nil
	}
	if image.Subject == nil || image.Subject.Digest.String() != f.digest {
		return nil, malformed("referrer "+digest+" has another subject", f.digest)
	}
	if len(image.Layers) != 1 || image.Layers[0].MediaType != bundleType {
		return nil, malformed(fmt.Sprintf("referrer %s has %d layers", digest, len(image.Layers)), "one, of type "+bundleType)
	}
	return image.Layers, nil
}

// referrers lists what refers to the digest (OCI distribution spec, "Listing
// Referrers"), bundles first: by the API, and where that is missing or has
// nothing, by the referrers tag schema.
func (f *fetch) referrers(ctx context.Context) ([]ocispec.Descriptor, error) {
	listed, err := f.referrersAPI(ctx)
	if err != nil || len(listed) == 0 {
		byTag, tagErr := f.referrersTag(ctx)
		listed = append(listed, byTag...)
		if err == nil {
			err = tagErr
		}
	}
	if len(listed) > 0 {
		if err != nil {
			f.found(err)
		}
		err = nil
	}
	slices.SortStableFunc(listed, func(a, b ocispec.Descriptor) int { return rank(a) - rank(b) })
	return listed, err
}

// rank puts first what is most likely a bundle, so that no number of other
// referrers pushes one over the bound.
func rank(d ocispec.Descriptor) int {
	switch d.ArtifactType {
	case bundleType:
		return 0
	case "", ocispec.MediaTypeEmptyJSON:
		return 1
	}
	return 2
}

func (f *fetch) referrersTag(ctx context.Context) ([]ocispec.Descriptor, error) {
	manifest, found, err := f.manifest(ctx, f.tag(""), maxManifest)
	if err != nil || !found {
		return nil, err
	}
	return f.descriptors(manifest.Raw)
}

func (f *fetch) referrersAPI(ctx context.Context) ([]ocispec.Descriptor, error) {
	q := ask{
		path: "referrers/" + f.digest, accept: indexType, limit: maxManifest, needs: docker.HostCapabilityPull | docker.HostCapabilityReferrers,
		// What registries without the API are known to answer.
		missing: []int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented},
	}
	if !slices.ContainsFunc(f.hosts, func(h docker.RegistryHost) bool { return h.Capabilities.Has(q.needs) }) {
		// A hosts.toml that lists capabilities and was written before containerd
		// knew this one means no host to be without it.
		q.needs = docker.HostCapabilityPull
	}
	var all []ocispec.Descriptor
	for range maxPages {
		r, found, err := f.get(ctx, q)
		if err != nil || !found || mediaType(r.header) != indexType {
			return all, err
		}
		page, err := f.descriptors(r.body)
		if err != nil {
			return all, err
		}
		all = append(all, page...)
		next := nextPage(r.header.Get("Link"))
		if next == nil || len(all) > maxListed {
			return all, nil
		}
		q.query = next
	}
	f.found(malformed(fmt.Sprintf("%s has more than %d pages of referrers", f.digest, maxPages), "a shorter list"))
	return all, nil
}

func (f *fetch) descriptors(raw []byte) ([]ocispec.Descriptor, error) {
	var index struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	err := json.Unmarshal(raw, &index)
	var listed []ocispec.Descriptor
	if err == nil {
		listed, err = f.list("referrers", index.Manifests)
	}
	if err != nil {
		return nil, malformed(fmt.Sprintf("referrers of %s: %v", f.digest, err), "an index of referrers")
	}
	return listed, nil
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
