package bind

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/verdict"
)

// Live gives the state of a container that exists, by its ID or the beginning of
// it, as a hook would see it: the annotations are those of its spec. It returns a
// *code.Refusal.
func (b *Binder) Live(ctx context.Context, id string) (*State, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	filter := fmt.Sprintf("id~=%s,labels.%s==%s", strconv.Quote("^"+regexp.QuoteMeta(id)), strconv.Quote(labelKind), kindContainer)
	if len(id) > 256 || !containerID.MatchString(id) {
		return nil, noContainer(id)
	}
	response, err := b.containers.List(ctx, &containersapi.ListContainersRequest{Filters: []string{filter}})
	if err != nil {
		return nil, b.unreachable("containers", err)
	}
	found := response.GetContainers()
	switch {
	case len(found) == 0:
		return nil, noContainer(id)
	case len(found) > 1:
		return nil, code.Refuse(code.BadReference, fmt.Sprintf("%d containers begin with %s", len(found), id), "one", "write more of the ID")
	}
	state := State{ID: found[0].GetID()}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(found[0].GetSpec().GetValue(), &spec); err != nil {
		return nil, code.Refuse(code.Malformed, "the container's spec can't be read: "+err.Error(), "an OCI runtime spec", "look at containerd's log")
	}
	state.Annotations = spec.Annotations
	return &state, nil
}

func noContainer(id string) error {
	return code.Refuse(code.BadReference, fmt.Sprintf("no container begins with %.80q", id), "the ID of a container of CRI, or a full image name",
		"list the containers with crictl ps -a")
}

// Lookup gives what the node has under an image name, this node's platform first.
// Nothing uses it yet, so there is nothing to bind it to. It returns a *code.Refusal.
func (b *Binder) Lookup(ctx context.Context, written string, trace *verdict.Trace) ([]Candidate, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	end := trace.Begin("record")
	image := Image{Name: written}
	err := b.lookup(ctx, &image)
	end(outcome(&image), err)
	return image.Candidates, err
}

func (b *Binder) lookup(ctx context.Context, image *Image) error {
	name, err := reference.Normalise(image.Name)
	if err != nil {
		return err
	}
	every := func(context.Context, string) (bool, error) { return true, nil }
	if name.IDForm {
		image.Candidates, err = b.session().unnamed(ctx, image.Name, every)
	} else {
		image.Candidates, err = b.session().named(ctx, name, every)
	}
	if err == nil && len(image.Candidates) == 0 {
		err = code.Refuse(code.NoRecord, "no image record "+image.Name, "the record that a pull or an import leaves", "pull the image")
	}
	if len(image.Candidates) > 1 {
		image.Candidates = image.Candidates[:1]
	}
	return err
}
