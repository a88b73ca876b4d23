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
	maxDocument = 4 << 20 // bytes of an index, a manifest or a config
	// Of one image record are read at most
	maxDocuments = 512     // manifests and indexes
	maxRead      = 8 << 20 // bytes of them
	// maxCandidates bounds the pairs of index and manifest that are judged.
	maxCandidates = 512
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
	order  []string // digests, as they were read
	beside []string // digests beyond a bound, which were not
	damage error    // why one of them could not be used
}

// documentsOf reads the manifests and indexes of an image record, each checked
// against its digest. One that is damaged is not an obstacle to the others. Whoever may
// pull can add to the record of an image whose content they have: those in first are
// read first, with what they lead to, and what is beyond a bound is left out.
func (b *Binder) documentsOf(driver string, image *imageRecord, first []string) *documents {
	d := &documents{parsed: map[string]*bind.Document{}, raw: map[string][]byte{}}
	left := map[string]bool{}
	keys := make([]string, 0, len(first)+len(image.BigData))
	for _, dgst := range first {
		keys = append(keys, manifestPrefix+dgst)
	}
	for _, key := range image.BigData {
		if key == manifestKey || strings.HasPrefix(key, manifestPrefix) {
			left[key] = true
			keys = append(keys, key)
		}
	}
	count, room := maxDocuments, int64(maxRead)
	var visit func(key string, level int)
	visit = func(key string, level int) {
		if !left[key] {
			return
		}
		delete(left, key)
		size := b.store.sizeOf(driver, image.ID, key)
		if count--; count < 0 || room < size {
			if dgst, ok := strings.CutPrefix(key, manifestPrefix); ok {
				d.beside = append(d.beside, dgst)
			}
			return
		}
		room -= size
		doc := b.load(d, driver, image.ID, key)
		if doc == nil || level > maxDepth {
			return
		}
		for _, child := range doc.Children {
			visit(manifestPrefix+child.Digest.String(), level+1)
		}
	}
	for _, key := range keys {
		visit(key, 0)
	}
	return d
}

// load reads one document of an image record; nil if it can't be used.
func (b *Binder) load(d *documents, driver, image, key string) *bind.Document {
	dgst, named := strings.CutPrefix(key, manifestPrefix)
	if known, ok := b.documents.Get(dgst); named && ok {
		d.add(dgst, known)
		return known
	}
	content, err := b.store.bigData(driver, image, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		d.damage = unusable(key, err)
		return nil
	}
	found := digest.FromBytes(content).String()
	if named && found != dgst {
		d.damage = tampered(dgst, found)
		return nil
	}
	parsed, err := bind.ParseDocument(found, content)
	if err != nil {
		d.damage = err
		return nil
	}
	d.add(found, parsed)
	d.raw[found] = content
	b.documents.Put(found, parsed)
	return parsed
}

func (d *documents) add(dgst string, doc *bind.Document) {
	if _, ok := d.parsed[dgst]; !ok {
		d.order = append(d.order, dgst)
	}
	d.parsed[dgst] = doc
}

// candidates are the manifests whose config is the image's, each with an index
// that lists it, where there is one; in the order in which they were read. Of those
// beyond a bound the digests are beside.
func (d *documents) candidates(config string) []bind.Candidate {
	above := map[string][]string{} // indexes by manifest
	for _, index := range d.order {
		for manifest := range d.reached(index) {
			above[manifest] = append(above[manifest], index)
		}
	}
	var found []bind.Candidate
	for _, manifest := range d.order {
		if doc := d.parsed[manifest]; doc.IsIndex || doc.Config != config {
			continue
		}
		if len(above[manifest]) == 0 {
			above[manifest] = []string{""}
		}
		for _, index := range above[manifest] {
			if len(found) == maxCandidates {
				d.beside = append(d.beside, index, manifest)
				continue
			}
			found = append(found, bind.Candidate{Index: index, Manifest: manifest, Config: config})
		}
	}
	return found
}

const maxDepth = 3 // indexes inside indexes

// reached gives all that an index lists, itself or by indexes in it.
func (d *documents) reached(index string) map[string]bool {
	reached := map[string]bool{}
	at := []string{index}
	for level := 0; level <= maxDepth && len(at) > 0; level++ {
		var next []string
		for _, dgst := range at {
			doc, ok := d.parsed[dgst]
			if !ok {
				continue
			}
			for _, child := range doc.Children {
				if c := child.Digest.String(); !reached[c] && c != index {
					reached[c] = true
					next = append(next, c)
				}
			}
		}
		at = next
	}
	return reached
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
