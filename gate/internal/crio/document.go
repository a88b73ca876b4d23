package crio

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

const (
	maxDocument  = 4 << 20 // bytes of an index, a manifest or a config
	maxDocuments = 128     // of one image record
	// manifestKey and manifestPrefix are the keys of manifests and indexes among an
	// image's big data (containers/storage, ImageDigestBigDataKey and
	// ImageDigestManifestBigDataNamePrefix).
	manifestKey    = "manifest"
	manifestPrefix = "manifest-"
)

// fileName gives the name of a big data item's file (containers/storage,
// makeBigDataBaseName).
func fileName(key string) string {
	if strings.Trim(key, ".0123456789abcdefghijklmnopqrstuvwxyz") == "" {
		return key
	}
	return "=" + base64.StdEncoding.EncodeToString([]byte(key))
}

// documents are what an image record holds under a digest of its own.
type documents struct {
	parsed map[string]*bind.Document
	raw    map[string][]byte
	damage error // why one of them could not be used
}

// documentsOf reads the manifests and indexes of an image record, each checked
// against its digest. One that is damaged is no obstacle to the others.
func (b *Binder) documentsOf(driver string, image *imageRecord) (*documents, error) {
	keys := slices.DeleteFunc(slices.Clone(image.BigData), func(key string) bool {
		return key != manifestKey && !strings.HasPrefix(key, manifestPrefix)
	})
	if len(keys) > maxDocuments {
		return nil, malformed("image "+image.ID, fmt.Sprintf("it has over %d manifests", maxDocuments))
	}
	d := &documents{parsed: map[string]*bind.Document{}, raw: map[string][]byte{}}
	for _, key := range keys {
		dgst, named := strings.CutPrefix(key, manifestPrefix)
		if named {
			if known, ok := b.documents.Get(dgst); ok {
				d.parsed[dgst] = known
				continue
			}
		}
		content, err := b.store.bigData(driver, image.ID, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			d.damage = unusable(key, err)
			continue
		}
		found := digest.FromBytes(content).String()
		if named && found != dgst {
			d.damage = tampered(dgst, found)
			continue
		}
		parsed, err := bind.ParseDocument(found, content)
		if err != nil {
			d.damage = err
			continue
		}
		d.parsed[found], d.raw[found] = parsed, content
		b.documents.Put(found, parsed)
	}
	return d, nil
}

// candidates are the manifests whose config is the image's, each with an index
// that lists it, where there is one.
func (d *documents) candidates(config string) []bind.Candidate {
	var found []bind.Candidate
	for _, manifest := range sorted(d.parsed) {
		if doc := d.parsed[manifest]; doc.IsIndex || doc.Config != config {
			continue
		}
		alone := true
		for _, index := range sorted(d.parsed) {
			if d.parsed[index].IsIndex && d.lists(index, manifest, 0) {
				found = append(found, bind.Candidate{Index: index, Manifest: manifest, Config: config})
				alone = false
			}
		}
		if alone {
			found = append(found, bind.Candidate{Manifest: manifest, Config: config})
		}
	}
	return found
}

const maxDepth = 3 // indexes inside indexes

func (d *documents) lists(index, manifest string, depth int) bool {
	doc, ok := d.parsed[index]
	if !ok || !doc.IsIndex || depth > maxDepth {
		return false
	}
	for _, child := range doc.Children {
		if c := child.Digest.String(); c == manifest || (c != index && d.lists(c, manifest, depth+1)) {
			return true
		}
	}
	return false
}

// rawOf gives the bytes of the candidates' documents that were read just now.
func (d *documents) rawOf(candidates []bind.Candidate) map[string][]byte {
	raw := map[string][]byte{}
	for _, c := range candidates {
		for _, dgst := range []string{c.Index, c.Manifest} {
			if content, ok := d.raw[dgst]; ok {
				raw[dgst] = content
			}
		}
	}
	return raw
}

// diffIDs gives those of an image's config, from memory or from storage.
func (b *Binder) diffIDs(driver, image, config string) ([]digest.Digest, error) {
	if known, ok := b.configs.Get(config); ok {
		return known, nil
	}
	content, err := b.store.bigData(driver, image, config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, code.Refuse(code.NotWhatRuns, "the image record has no config "+config, "the config whose digest is the image's ID", "pull the image again")
	}
	if err != nil {
		return nil, unusable(config, err)
	}
	if found := digest.FromBytes(content).String(); found != config {
		return nil, tampered(config, found)
	}
	ids, err := bind.ParseDiffIDs(config, content)
	if err == nil {
		b.configs.Put(config, ids)
	}
	return ids, err
}

// configOf gives the config digest that an image's ID stands for.
func configOf(imageID string) (string, error) {
	config := "sha256:" + imageID
	if err := reference.CheckDigest(config); err != nil {
		return "", partial(imageID)
	}
	return config, nil
}

func partial(imageID string) error {
	return code.Refuse(code.UnsupportedRuntime, "image "+imageID+" has no manifest whose config digest is the image's ID",
		"an image that was pulled whole", `pull it again with enable_partial_images = "false" in storage.conf`)
}

func unusable(key string, err error) error {
	if errors.Is(err, errTooLarge) {
		return malformed(key, err.Error())
	}
	return unreadable(err)
}

func tampered(dgst, found string) error {
	return code.Refuse(code.Tampered, fmt.Sprintf("the bytes stored as %.80s have the digest %s", dgst, found),
		"content that matches its digest", "remove the image from the node and pull it again")
}

func malformed(what, why string) error {
	return code.Refuse(code.Malformed, fmt.Sprintf("%.120s can't be used: %s", what, why), "an OCI image", "build the image with a current tool")
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
