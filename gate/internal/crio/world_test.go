package crio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
)

const (
	id         = "c0ffee0000000000000000000000000000000000000000000000000000000001"
	sandbox    = "c0ffee0000000000000000000000000000000000000000000000000000000002"
	repository = "registry.example/app"
	tagged     = repository + ":v1"
)

// world is a fabricated storage with one container, in CRI-O's own form.
type world struct {
	t             testing.TB
	root, runRoot string
	driver        string
	containers    []map[string]any
	images        []*picture
	layers        []map[string]any
	volatile      []map[string]any // layers
	mounts        []map[string]any
	bundle        string
	name          string // the container's image-name
	annotations   map[string]string
	meta          map[string]any
	binder        *Binder
}

// picture is an image in storage.
type picture struct {
	id       string
	names    []string
	top      string
	mapped   []string
	data     map[string][]byte
	diffs    []digest.Digest
	config   string
	manifest string
	index    string
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, root: t.TempDir(), runRoot: t.TempDir(), driver: "overlay", name: tagged, annotations: map[string]string{}, meta: map[string]any{}}
	app := w.image("app", tagged, repository+"@sha256:"+strings.Repeat("a", 64))
	w.container(app)
	w.binder = New(Config{Root: w.root, RunRoot: w.runRoot, Timeout: time.Second})
	return w
}

// image adds an image of two layers that was pulled by an index.
func (w *world) image(marker string, names ...string) *picture {
	p := &picture{names: names, data: map[string][]byte{}}
	parent := ""
	for i := range 2 {
		diff := digest.FromString(fmt.Sprintf("%s layer %d", marker, i))
		layer := digest.FromString(parent + diff.String()).Encoded()
		w.layers = append(w.layers, map[string]any{"id": layer, "parent": parent, "diff-digest": diff})
		p.diffs = append(p.diffs, diff)
		parent = layer
	}
	p.top = parent
	config, _ := json.Marshal(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": p.diffs}})
	p.config = digest.FromBytes(config).String()
	p.id = digest.FromBytes(config).Encoded()
	p.data[p.config] = config
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[]}`, p.config)
	p.manifest = digest.FromBytes(manifest).String()
	index := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q}]}`, p.manifest)
	p.index = digest.FromBytes(index).String()
	p.data["manifest"], p.data["manifest-"+p.manifest], p.data["manifest-"+p.index] = manifest, manifest, index
	w.images = append(w.images, p)
	return p
}

func (w *world) container(p *picture) {
	w.containers = []map[string]any{{"id": id, "image": p.id, "layer": "own"}}
	w.volatile = []map[string]any{{"id": "own", "parent": p.top}}
}

func (w *world) write(path string, value any) {
	w.t.Helper()
	content, ok := value.([]byte)
	if !ok {
		content, _ = json.Marshal(value)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// store writes it all to disk.
func (w *world) store() {
	w.t.Helper()
	at := func(kind, name string) string { return filepath.Join(w.root, w.driver+"-"+kind, name) }
	for _, c := range w.containers {
		if _, ok := c["metadata"]; !ok {
			meta := map[string]any{"pod-name": "pod", "pod-id": sandbox, "image-name": w.name, "image-id": c["image"]}
			for key, value := range w.meta {
				meta[key] = value
			}
			text, _ := json.Marshal(meta)
			c["metadata"] = string(text)
		}
	}
	w.write(at("containers", "volatile-containers.json"), w.containers)
	w.write(at("containers", "containers.json"), []any{})
	var images []map[string]any
	for _, p := range w.images {
		keys := sorted(p.data)
		images = append(images, map[string]any{"id": p.id, "names": p.names, "layer": p.top, "mapped-layers": p.mapped, "big-data-names": keys})
		for _, key := range keys {
			w.write(at("images", filepath.Join(p.id, fileName(key))), p.data[key])
		}
	}
	w.write(at("images", "images.json"), images)
	w.write(at("layers", "layers.json"), w.layers)
	w.write(at("layers", "volatile-layers.json"), w.volatile)
	if w.bundle == "" {
		w.bundle = filepath.Join(w.runRoot, w.driver+"-containers", id, "userdata")
	}
	w.write(filepath.Join(w.runRoot, w.driver+"-containers", id, "userdata", "config.json"), map[string]any{"mounts": w.mounts})
}

// bind stores the world and binds its container.
func (w *world) bind() (*bind.Bound, error) {
	w.t.Helper()
	w.store()
	content, _ := json.Marshal(map[string]any{"id": id, "bundle": w.bundle, "annotations": w.annotations})
	state, err := w.binder.State(content)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.binder.Container(context.Background(), state, nil)
}

func codeOf(err error) code.Code {
	var refusal *code.Refusal
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	if err != nil {
		return code.Code(err.Error())
	}
	return ""
}
