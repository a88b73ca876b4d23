// Package crio finds out, for CRI-O, what a container really runs: it binds the
// image name in the container's record to the manifests, config and layers behind
// the container's own layer. Inside the hook CRI-O's API does not know the
// container yet, so everything is read from the files of containers/storage; the
// OCI state that the hook saw is only compared with it. As in package bind, nothing
// here trusts or judges an image.
package crio

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/lru"
	"countersign/gate/internal/verdict"
)

// Names of annotations that CRI-O sets (internal/annotations). A CRI client can
// override them with annotations of the container: they are only ever compared.
const (
	annotationImage     = "io.kubernetes.cri-o.Image"    // as in the record's image-name
	annotationImageRef  = "io.kubernetes.cri-o.ImageRef" // the image's ID
	annotationNamespace = "io.kubernetes.pod.namespace"
	annotationPod       = "io.kubernetes.pod.name"
	annotationUID       = "io.kubernetes.pod.uid"
)

const (
	maxRemembered      = 2048    // documents and configs
	maxRememberedBytes = 4 << 20 // that either of them hold
)

// Config says where CRI-O keeps its storage.
type Config struct {
	Root    string        // containers/storage's root
	RunRoot string        // and its run root
	Timeout time.Duration // for a whole binding
}

// Binder reads one storage. It is safe for any number of goroutines.
type Binder struct {
	config Config
	store  store

	// By digest: content never changes under it.
	documents *lru.Cache[string, *bind.Document]
	configs   *lru.Cache[string, []digest.Digest]
}

// New makes a Binder. Nothing is read before it is asked.
func New(config Config) *Binder {
	return &Binder{
		config:    config,
		store:     store{root: config.Root, runRoot: config.RunRoot},
		documents: lru.NewSized[string](maxRemembered, maxRememberedBytes, (*bind.Document).Size),
		configs:   lru.NewSized[string](maxRemembered, maxRememberedBytes, sizeOf),
	}
}

// sizeOf is about what a config's diff IDs hold in memory, in bytes.
func sizeOf(ids []digest.Digest) int {
	size := 64
	for _, id := range ids {
		size += 16 + len(id)
	}
	return size
}

// Connect and Close are for symmetry with package bind: files need neither.
func (b *Binder) Connect() {}

// Close does nothing.
func (b *Binder) Close() error { return nil }

// containerID is what CRI-O gives (stringid).
var containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// State reads the OCI state that the hook was given. It returns a *code.Refusal.
func (b *Binder) State(content []byte) (*bind.State, error) {
	s, err := bind.DecodeState(content)
	if err != nil {
		return nil, err
	}
	if !containerID.MatchString(s.ID) {
		return s, noContainer(s.ID)
	}
	describe(s)
	return s, nil
}

func describe(s *bind.State) {
	pod := ""
	if s.Annotations[annotationPod] != "" {
		pod = s.Annotations[annotationNamespace] + "/" + s.Annotations[annotationPod]
	}
	s.Describe(s.Annotations[annotationImage], pod, s.Annotations[annotationUID])
}

// criMetadata is what is read of RuntimeContainerMetadata (internal/storage/runtime.go).
type criMetadata struct {
	PodName   string `json:"pod-name"`
	PodID     string `json:"pod-id"`
	ImageName string `json:"image-name"` // as the CRI client wrote it; the kubelet writes the image's ID
	ImageID   string `json:"image-id"`
}

// Container binds the container of an OCI state. It returns what it knows even
// with an error, which is a *code.Refusal. An image that the client named by its ID
// is given once for each repository that its record names, for each of them to be
// judged: CRI-O keeps no record of which one the user meant.
func (b *Binder) Container(ctx context.Context, state *bind.State, trace *verdict.Trace) (*bind.Bound, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	bound := &bind.Bound{Container: state.ID, Pod: state.Pod(), Images: []bind.Image{{Name: state.Image()}}}
	c, err := b.identify(ctx, state, trace)
	if err != nil {
		return bound, err
	}
	bound.Images[0].Name = c.meta.ImageName

	end := trace.Begin("record")
	images, raw, err := b.findRecord(ctx, c)
	end(outcome(images), err)
	if err != nil {
		return bound, err
	}
	bound.Images, bound.Raw = images, raw

	end = trace.Begin("layers")
	err = b.checkLayers(ctx, c)
	end(c.driver+" layer "+c.record.Layer+" stands on the config's layers", err)
	if err != nil {
		return bound, err
	}
	end = trace.Begin("mounts")
	err = b.checkBundle(c, state.Bundle)
	end("no image volume, no checkpoint", err)
	return bound, err
}

// found is a container on its way through a binding.
type found struct {
	record *containerRecord
	driver string
	meta   criMetadata
	image  *imageRecord
	all    map[string]imageRecord
	config string // digest
}

// identify is step 1: the container's record, and in it the name that the client
// wrote and the image's ID, which must be those that the hook saw.
func (b *Binder) identify(ctx context.Context, state *bind.State, trace *verdict.Trace) (*found, error) {
	end := trace.Begin("container")
	c, err := b.recordOf(ctx, state.ID)
	if err == nil {
		err = sameName(c, state)
	}
	if err != nil {
		end("", err)
		return nil, err
	}
	end(fmt.Sprintf("%s, written as %s, uses image %s", c.record.ID, c.meta.ImageName, c.record.Image), nil)
	return c, nil
}

func (b *Binder) recordOf(ctx context.Context, id string) (*found, error) {
	record, driver, err := b.store.container(ctx, id)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, noContainer(id)
	}
	c := &found{record: record, driver: driver}
	if err := json.Unmarshal([]byte(record.Metadata), &c.meta); err != nil {
		return nil, unsupported(id, "has metadata that can't be read: "+err.Error())
	}
	switch {
	case c.meta.PodID == "" || c.meta.PodName == "":
		return nil, unsupported(id, "belongs to no pod")
	case c.meta.ImageName == "":
		return nil, unsupported(id, "doesn't say by what name its image was asked for")
	case c.meta.ImageID != record.Image:
		return nil, code.Refuse(code.NotWhatRuns, "the container's record says image "+record.Image, c.meta.ImageID+" as in its metadata", "create the container anew")
	}
	if c.config, err = configOf(record.Image); err != nil {
		return nil, err
	}
	return c, nil
}

// sameName compares what the hook saw with the record.
func sameName(c *found, state *bind.State) error {
	for _, compare := range []struct{ annotation, recorded string }{
		{annotationImage, c.meta.ImageName}, {annotationImageRef, c.record.Image},
	} {
		if seen, ok := state.Annotations[compare.annotation]; ok && seen != compare.recorded {
			return code.Refuse(code.NotWhatRuns, fmt.Sprintf("annotation %s is %.300q", compare.annotation, seen),
				fmt.Sprintf("%.300q as in the container's record", compare.recorded), "create the container anew, without that annotation")
		}
	}
	return nil
}

// checkLayers is step 3: the container's own layer stands on the image's top layer,
// or on a copy of it for a user namespace, and the layers from there down are those
// of the image's config.
func (b *Binder) checkLayers(ctx context.Context, c *found) error {
	own, err := b.store.layer(ctx, c.driver, c.record.Layer)
	if err != nil {
		return err
	}
	if own == nil {
		return otherLayers("storage has no layer "+c.record.Layer, "the layer that the container was made with")
	}
	if own.Parent != c.image.TopLayer && (own.Parent == "" || !slices.Contains(c.image.MappedLayers, own.Parent)) {
		return otherLayers(fmt.Sprintf("the container's layer stands on %q", own.Parent), fmt.Sprintf("%q, the top layer of image %s", c.image.TopLayer, c.image.ID))
	}
	want, err := b.diffIDs(c.driver, c.image.ID, c.config)
	if err != nil {
		return err
	}
	at := own.Parent
	for i := len(want) - 1; i >= 0; i-- {
		layer, err := b.store.layer(ctx, c.driver, at)
		switch {
		case err != nil:
			return err
		case layer == nil:
			return otherLayers(fmt.Sprintf("storage has no layer %q", at), fmt.Sprintf("layer %d of config %s", i+1, c.config))
		case layer.DiffDigest == "" && layer.TOCDigest != "":
			return partial(c.image.ID)
		case layer.DiffDigest != want[i].String():
			return otherLayers(fmt.Sprintf("layer %d of the image, %s, has the diff ID %q", i+1, at, layer.DiffDigest), want[i].String()+" as in config "+c.config)
		}
		at = layer.Parent
	}
	if at != "" {
		return otherLayers("below the image's layers there is "+at, fmt.Sprintf("the %d layers of config %s", len(want), c.config))
	}
	return nil
}

func otherLayers(found, expected string) error {
	return code.Refuse(code.NotWhatRuns, found, expected, "remove the container and the image, pull it again")
}

func noContainer(id string) error {
	return code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("CRI-O's storage has no container %.80q", id), "a container that CRI-O made",
		"start it through CRI, or correct crio.root and crio.runRoot in gate.json")
}

func unsupported(id, found string) error {
	return code.Refuse(code.UnsupportedRuntime, "container "+id+" "+found, "a container that CRI-O made", "start it through CRI")
}
