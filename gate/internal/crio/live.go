package crio

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
)

var beginning = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// Live gives the state of a container that exists, by its ID or the beginning of
// it, as a hook would see it. It returns a *code.Refusal.
func (b *Binder) Live(ctx context.Context, id string) (*bind.State, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	all, err := b.store.allContainers(ctx)
	if err != nil {
		return nil, err
	}
	var one *located
	for _, c := range all {
		if !beginning.MatchString(id) || !strings.HasPrefix(c.record.ID, id) {
			continue
		}
		if one != nil && one.record.ID != c.record.ID {
			return nil, code.Refuse(code.BadReference, "several containers begin with "+id, "one", "write more of the ID")
		}
		one = &c
	}
	if one == nil {
		return nil, code.Refuse(code.BadReference, fmt.Sprintf("no container begins with %.80q", id), "the ID of a container of CRI, or a full image name",
			"list the containers with crictl ps -a")
	}
	_, bundle := b.store.userdata(one.driver, one.record.ID)
	return &bind.State{ID: one.record.ID, Bundle: bundle}, nil
}

// Sandbox binds the container of a pod's sandbox, which has a record as any container has.
// It returns what it knows even with an error, which is a *code.Refusal.
func (b *Binder) Sandbox(ctx context.Context, id string) (*bind.Bound, error) {
	state, err := b.Live(ctx, id)
	if err != nil {
		return &bind.Bound{Container: id}, err
	}
	return b.Container(ctx, state, nil)
}

// Signed says whether the image of a container has signatures in storage: those that a
// pull found, by which CRI-O's own engine goes at each start.
func (b *Binder) Signed(ctx context.Context, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	record, driver, err := b.store.container(ctx, id)
	if err != nil {
		return false, err
	}
	images, err := b.store.imagesOf(ctx, driver)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(images[record.Image].BigData, func(name string) bool { return strings.HasPrefix(name, "signature") }), nil
}

// Lookup gives what the node has under an image name or ID. Nothing uses it yet, so
// there is nothing to bind it to. It returns a *code.Refusal.
func (b *Binder) Lookup(ctx context.Context, text string, trace *verdict.Trace) ([]bind.Candidate, error) {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	end := trace.Begin("record")
	candidates, err := b.lookup(ctx, text)
	end(outcome([]bind.Image{{Name: text, Candidates: candidates}}), err)
	return candidates, err
}

func (b *Binder) lookup(ctx context.Context, text string) ([]bind.Candidate, error) {
	name, err := reference.Normalise(text)
	if err != nil {
		return nil, err
	}
	drivers, err := b.store.drivers()
	if err != nil {
		return nil, err
	}
	for _, driver := range drivers {
		images, err := b.store.imagesOf(ctx, driver)
		if err != nil {
			return nil, err
		}
		for _, id := range sorted(images) {
			image := images[id]
			if !answers(&image, name, strings.TrimPrefix(text, "sha256:")) {
				continue
			}
			found, err := b.under(driver, &image, name.Digest)
			if err != nil || len(found) > 0 {
				return found, err
			}
		}
	}
	return nil, code.Refuse(code.NoRecord, "no image record "+text, "the record that a pull leaves", "pull the image")
}

// answers says whether an image record goes by a name: its own, one of the
// repository for a name with a digest, or the beginning of its ID.
func answers(image *imageRecord, name reference.Name, id string) bool {
	if name.IDForm {
		return id != "" && strings.HasPrefix(image.ID, id)
	}
	for _, n := range namesOf(image) {
		if n.String() == name.String() || (name.Digest != "" && n.Repository == name.Repository) {
			return true
		}
	}
	return false
}

// under gives an image's candidates, for a name with a digest those that have it.
func (b *Binder) under(driver string, image *imageRecord, dgst string) ([]bind.Candidate, error) {
	config, err := configOf(image.ID)
	if err != nil {
		return nil, err
	}
	docs := b.documentsOf(driver, image, []string{dgst})
	var found []bind.Candidate
	for _, c := range docs.candidates(config) {
		if dgst == "" || c.Index == dgst || c.Manifest == dgst {
			found = append(found, c)
		}
	}
	if len(found) == 0 && docs.damage != nil {
		return nil, docs.damage
	}
	return found, nil
}
