package crio

import (
	"cmp"
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
	maxDocument  = 4 << 20  // bytes of an index, a manifest or a config
	maxDocuments = 1024     // of one image record
	maxRead      = 16 << 20 // bytes of them that are read for one binding
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
// against its digest. One that is damaged is no obstacle to the others. The record is
// shared by all who pull the same content, and whoever pulls it in another form adds to
// it: those that the record's own names point to come first, then the small ones, and
// what is beyond the bounds is left out.
func (b *Binder) documentsOf(driver string, image *imageRecord) (*documents, error) {
	keys := b.documentKeys(driver, image)
	d := &documents{parsed: map[string]*bind.Document{}, raw: map[string][]byte{}}
	left := int64(maxRead)
	for _, k := range keys {
		dgst, named := strings.CutPrefix(k.key, manifestPrefix)
		if named {
			if known, ok := b.documents.Get(dgst); ok {
				d.parsed[dgst] = known
				continue
			}
		}
		if left -= k.size; left < 0 {
			break
		}
		key := k.key
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

// documentKey names a document of an image record.
type documentKey struct {
	key     string
	pointed bool  // by a name of the record
	size    int64 // bytes
}

// documentKeys lists an image record's manifests and indexes in the order in which they
// are read.
func (b *Binder) documentKeys(driver string, image *imageRecord) []documentKey {
	pointed := map[string]bool{manifestKey: true}
	for _, name := range image.Names {
		if _, dgst, ok := strings.Cut(name, "@"); ok {
			pointed[manifestPrefix+dgst] = true
		}
	}
	var keys []documentKey
	for _, key := range image.BigData {
		if key == manifestKey || strings.HasPrefix(key, manifestPrefix) {
			keys = append(keys, documentKey{key, pointed[key], b.store.bigDataSize(driver, image.ID, key)})
		}
	}
	slices.SortStableFunc(keys, func(a, c documentKey) int {
		if a.pointed != c.pointed {
			if a.pointed {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.size, c.size)
	})
	return keys[:min(len(keys), maxDocuments)]
}

// Bounds of the way from indexes to manifests.
const (
	maxDepth      = 3       // indexes inside indexes
	maxSteps      = 1 << 18 // from a document to one that it lists, for one binding
	maxIndexes    = 64      // with which one manifest is judged
	maxCandidates = 1024
)

// candidates are the manifests whose config is the image's, each with the indexes
// that list it, where there are some.
func (d *documents) candidates(config string) []bind.Candidate {
	indexes := map[string][]string{} // of a manifest
	steps := maxSteps
	for _, index := range sorted(d.parsed) {
		if !d.parsed[index].IsIndex {
			continue
		}
		for manifest := range d.below(index, &steps) {
			if len(indexes[manifest]) < maxIndexes {
				indexes[manifest] = append(indexes[manifest], index)
			}
		}
	}
	var found []bind.Candidate
	for _, manifest := range sorted(d.parsed) {
		if doc := d.parsed[manifest]; doc.IsIndex || doc.Config != config {
			continue
		}
		of := indexes[manifest]
		if len(of) == 0 {
			of = []string{""}
		}
		for _, index := range of {
			if found = append(found, bind.Candidate{Index: index, Manifest: manifest, Config: config}); len(found) == maxCandidates {
				return found
			}
		}
	}
	return found
}

// below gives what an index leads to. steps is how far all indexes together are
// followed: each may list every other.
func (d *documents) below(index string, steps *int) map[string]bool {
	seen := map[string]bool{}
	level := []string{index}
	for range maxDepth + 1 {
		var next []string
		for _, at := range level {
			for _, child := range d.parsed[at].Children {
				if *steps--; *steps < 0 {
					return seen
				}
				digest := child.Digest.String()
				if doc, ok := d.parsed[digest]; ok && digest != index && !seen[digest] {
					seen[digest] = true
					if doc.IsIndex {
						next = append(next, digest)
					}
				}
			}
		}
		level = next
	}
	return seen
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
