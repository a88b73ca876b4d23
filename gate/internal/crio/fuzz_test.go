package crio

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

// Whatever the records of containers/storage say, a binding ends in a typed refusal,
// or names documents that have their own digests.
func FuzzRecords(f *testing.F) {
	seed := newSeed(f)
	f.Add(seed.containers, seed.images, seed.layers, seed.volatile, seed.bundle, seed.manifest)
	f.Add([]byte(`[]`), seed.images, seed.layers, seed.volatile, seed.bundle, seed.manifest)
	f.Add(seed.containers, []byte(`[{"id":"`+id+`","names":["x"],"big-data-names":["manifest","manifest-sha256:0"]}]`), seed.layers, seed.volatile, seed.bundle, seed.manifest)
	f.Add(seed.containers, seed.images, []byte(`[{"id":"own","parent":"own"}]`), []byte(`[{"id":"own","parent":"own"}]`), seed.bundle, seed.manifest)
	f.Add(seed.containers, seed.images, seed.layers, seed.volatile, []byte(`{"mounts":[{"source":"/x","options":["rbind"]}]}`), []byte(`{"manifests":[{"digest":"sha256:0"}]}`))
	f.Fuzz(func(t *testing.T, containers, images, layers, volatile, bundle, manifest []byte) {
		if !decodes[containerRecord](t, containers) || !decodes[imageRecord](t, images) || !decodes[layerRecord](t, layers) || !decodes[layerRecord](t, volatile) {
			return // which a binding waits for to be replaced
		}
		w := newWorld(t)
		w.store()
		at := func(kind, name string) string { return filepath.Join(w.root, w.driver+"-"+kind, name) }
		w.write(at("containers", "volatile-containers.json"), containers)
		w.write(at("images", "images.json"), images)
		w.write(at("images", filepath.Join(w.images[0].id, fileName("manifest"))), manifest)
		w.write(at("layers", "layers.json"), layers)
		w.write(at("layers", "volatile-layers.json"), volatile)
		w.write(filepath.Join(w.bundle, "config.json"), bundle)
		content, _ := json.Marshal(map[string]any{"id": id, "bundle": w.bundle, "annotations": w.annotations})
		state, err := w.binder.State(content)
		if err != nil {
			t.Fatal(err)
		}
		bound, err := w.binder.Container(context.Background(), state, nil)
		var refusal *code.Refusal
		switch {
		case err != nil && (!errors.As(err, &refusal) || refusal.Code == "" || refusal.Code.Allows()):
			t.Errorf("got %v, expected a refusal", err)
		case err == nil && len(bound.Images) == 0:
			t.Errorf("bound to nothing: %+v", bound)
		}
		if err != nil {
			return
		}
		for d, raw := range bound.Raw {
			if digest.FromBytes(raw).String() != d {
				t.Errorf("%q is taken for %s", raw, d)
			}
		}
		for _, image := range bound.Images {
			for _, c := range image.Candidates {
				if reference.CheckDigest(c.Manifest) != nil || reference.CheckDigest(c.Config) != nil {
					t.Errorf("got %+v", c)
				}
			}
		}
	})
}

// decodes says whether content is a file of records, which then are kept by their IDs.
func decodes[R interface{ id() string }](t *testing.T, content []byte) bool {
	records, err := decode[R](content)
	for key, r := range records {
		if key == "" || r.id() != key {
			t.Errorf("%q: %+v is kept as %q", content, r, key)
		}
	}
	return err == nil
}

// seed is a world's files, as they bind.
type seed struct{ containers, images, layers, volatile, bundle, manifest []byte }

func newSeed(f *testing.F) seed {
	f.Helper()
	w := newWorld(f)
	if _, err := w.bind(); err != nil {
		f.Fatal(err)
	}
	read := func(path string) []byte {
		content, err := readPath(path, 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		return content
	}
	at := func(kind, name string) string { return filepath.Join(w.root, w.driver+"-"+kind, name) }
	return seed{read(at("containers", "volatile-containers.json")), read(at("images", "images.json")), read(at("layers", "layers.json")),
		read(at("layers", "volatile-layers.json")), read(filepath.Join(w.bundle, "config.json")), w.images[0].data["manifest"]}
}
