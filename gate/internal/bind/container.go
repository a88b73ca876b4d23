package bind

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
)

// Container binds the container of an OCI state. It returns what it knows even
// with an error, which is a *code.Refusal.
func (b *Binder) Container(ctx context.Context, state *State, trace *verdict.Trace) (*Bound, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	s := b.session()
	s.prefetch(ctx, state)
	bound := &Bound{Container: state.ID, Pod: state.Pod(), Images: []Image{{Name: state.Image()}}}
	container, meta, err := b.identify(ctx, state, trace)
	if err != nil {
		return bound, err
	}
	snapshotter := container.GetSnapshotter()
	b.lastSnapshotter.Store(&snapshotter)
	bound.Images = imagesOf(meta)
	steps := make([]func() error, len(bound.Images))
	for i := range bound.Images {
		image := &bound.Images[i]
		steps[i] = func() error { return s.bindVolume(ctx, container, meta.SandboxID, image, trace) }
	}
	steps[0] = func() error { return s.bindRoot(ctx, container, meta, &bound.Images[0], trace) }
	err = atOnce(steps...)
	bound.Raw = s.rawOf(bound.Images)
	return bound, err
}

// atOnce runs steps side by side. Of several errors the first in order counts, so
// that one state of affairs always gives one reason code.
func atOnce(steps ...func() error) error {
	errs := make([]error, len(steps))
	var group sync.WaitGroup
	for i, step := range steps[1:] {
		group.Go(func() { errs[i+1] = step() })
	}
	errs[0] = steps[0]()
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// identify is step 1: the container's record, and in it the name that the user
// wrote, which must be the one that the hook saw.
func (b *Binder) identify(ctx context.Context, state *State, trace *verdict.Trace) (*containersapi.Container, *criMetadata, error) {
	end := trace.Begin("container")
	container, meta, err := b.metadataOf(ctx, state.ID)
	if err == nil {
		err = sameName(meta, state)
	}
	if err != nil {
		end("", err)
		return nil, nil, err
	}
	end(fmt.Sprintf("%s, written as %s, uses config %s", meta.ID, meta.Config.Image.UserSpecifiedImage, meta.ImageRef), nil)
	return container, meta, nil
}

func (b *Binder) metadataOf(ctx context.Context, id string) (*containersapi.Container, *criMetadata, error) {
	response, err := b.containers.Get(ctx, &containersapi.GetContainerRequest{ID: id})
	if isNotFound(err) {
		return nil, nil, code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("containerd has no container %s in namespace %s", id, b.config.Namespace),
			"a container that CRI started", "start it through CRI, or correct containerd.namespace in gate.json")
	}
	if err != nil {
		return nil, nil, b.unreachable("container "+id, err)
	}
	meta, err := parseMetadata(response.GetContainer())
	return response.GetContainer(), meta, err
}

func sameName(meta *criMetadata, state *State) error {
	name := meta.Config.Image.UserSpecifiedImage
	if name == "" {
		return code.Refuse(code.UnsupportedRuntime, "the container's metadata doesn't say what image the user wrote (UserSpecifiedImage is empty)",
			"a CRI client that sets it, as the kubelet does", "use containerd 2.1 or later and a client that sets user_specified_image")
	}
	if annotated := state.Image(); annotated != name {
		return code.Refuse(code.NotWhatRuns, fmt.Sprintf("annotation %s is %.300q", annotationImageName, annotated),
			fmt.Sprintf("%.300q as in the container's metadata", name), "create the container anew through CRI")
	}
	return nil
}

// imagesOf lists the images that a container uses, not yet bound.
func imagesOf(meta *criMetadata) []Image {
	images := []Image{{Name: meta.Config.Image.UserSpecifiedImage}}
	for _, mount := range meta.Config.Mounts {
		if mount.Image != nil && mount.Image.Image != "" {
			images = append(images, Image{Name: mount.Image.name(), Volume: mount.ContainerPath, mount: mount})
		}
	}
	return images
}

func (i *criImage) name() string {
	if i.UserSpecifiedImage != "" {
		return i.UserSpecifiedImage
	}
	return i.Image
}

// bindRoot is steps 2 and 3 for the container's own image, both asked at once.
func (s *session) bindRoot(ctx context.Context, container *containersapi.Container, meta *criMetadata, image *Image, trace *verdict.Trace) error {
	name, err := reference.Normalise(image.Name)
	if err != nil {
		return err
	}
	image.Repository = name.Repository
	return atOnce(
		func() error {
			end := trace.Begin("record")
			err := s.findRecord(ctx, name, meta.ImageRef, image)
			end(outcome(image), err)
			return err
		},
		func() error {
			end := trace.Begin("snapshot")
			err := s.checkSnapshot(ctx, container, meta.ImageRef)
			end(container.GetSnapshotter()+" snapshot "+container.GetSnapshotKey()+" has the config's layers", err)
			return err
		})
}

// findRecord is step 2: from the name to manifests with the container's config.
func (s *session) findRecord(ctx context.Context, name reference.Name, config string, image *Image) (err error) {
	use := func(_ context.Context, c string) (bool, error) { return c == config, nil }
	if !name.IDForm {
		image.Candidates, err = s.named(ctx, name, use)
		return err
	}
	image.Candidates, err = s.unnamed(ctx, config, use)
	if err == nil && len(image.Candidates) == 0 {
		image.Candidates = []Candidate{{Config: config}}
	}
	return err
}

// checkSnapshot is step 3: the container's snapshot has the layers of its config.
func (s *session) checkSnapshot(ctx context.Context, container *containersapi.Container, config string) error {
	if err := s.listed(container.GetSnapshotter()); err != nil {
		return err
	}
	stands, err := s.layersOf(ctx, container.GetSnapshotter(), container.GetSnapshotKey())
	if err != nil {
		return err
	}
	chain, err := s.chainOf(ctx, config)
	if errors.Is(err, errAbsent) {
		return code.Refuse(code.NotWhatRuns, "the content store has no config "+config, "the config that the container uses", "pull the image again")
	}
	if err != nil {
		return err
	}
	if !stands.standsOn(chain) {
		return otherLayers(stands.parent, fmt.Sprintf("%q, the chain ID of config %s", chain, config))
	}
	return nil
}

func otherLayers(parent, expected string) error {
	return code.Refuse(code.NotWhatRuns, fmt.Sprintf("the snapshot stands on %q", parent), expected, "remove the container and the image, pull it again")
}

// volumePath is where CRI mounts image volumes: STATE/image-volumes/SANDBOX/DIGEST,
// which is also the key of the snapshot; a sub-path may follow.
var volumePath = regexp.MustCompile(`^(/.*/image-volumes/([^/]+)/[0-9a-f]{64})(?:/.*)?$`)

// bindVolume is step 4: the image whose layers are those of the snapshot that is
// mounted, found from the volume's name.
func (s *session) bindVolume(ctx context.Context, container *containersapi.Container, sandbox string, image *Image, trace *verdict.Trace) error {
	end := trace.Begin("image volume " + image.Volume)
	err := s.findVolume(ctx, container, sandbox, image)
	end(outcome(image), err)
	return err
}

func (s *session) findVolume(ctx context.Context, container *containersapi.Container, sandbox string, image *Image) error {
	name, err := reference.Normalise(image.Name)
	if err != nil {
		return err
	}
	image.Repository = name.Repository
	match := volumePath.FindStringSubmatch(image.mount.HostPath)
	if match == nil || match[2] != sandbox {
		return code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("image volume %s is mounted from %.300q", image.Volume, image.mount.HostPath),
			"the place where containerd's CRI plugin mounts image volumes", "use containerd 2.1 or later")
	}
	return s.bindLayers(ctx, container.GetSnapshotter(), match[1], name, image)
}

// bindLayers finds what a name leads to that has the layers which a snapshot stands on.
func (s *session) bindLayers(ctx context.Context, snapshotter, key string, name reference.Name, image *Image) error {
	if err := s.listed(snapshotter); err != nil {
		return err
	}
	stands, err := s.layersOf(ctx, snapshotter, key)
	if err != nil {
		return err
	}
	use := func(ctx context.Context, config string) (bool, error) {
		chain, err := s.chainOf(ctx, config)
		return err == nil && stands.standsOn(chain), err
	}
	if name.IDForm {
		image.Candidates, err = s.unnamed(ctx, image.Name, use)
	} else {
		image.Candidates, err = s.named(ctx, name, use)
	}
	if err == nil && len(image.Candidates) == 0 {
		err = otherLayers(stands.parent, "the layers of "+image.Name)
	}
	return err
}

func outcome(image *Image) string {
	if len(image.Candidates) == 0 {
		return "none"
	}
	c := image.Candidates[0]
	if c.Index != "" {
		return fmt.Sprintf("%s: index %s, manifest %s, config %s", image.Name, c.Index, c.Manifest, c.Config)
	}
	return fmt.Sprintf("%s: manifest %s, config %s", image.Name, c.Manifest, c.Config)
}
