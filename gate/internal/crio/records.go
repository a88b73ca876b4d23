package crio

import (
	"context"
	"fmt"
	"slices"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

const (
	maxRepositories = 1024 // of one image record, where the client named the image by its ID
	maxShown        = 16   // names of an image in a step
)

// findRecord is step 2: the image's record, the manifests in it with the very
// config that the container uses, and the repositories to judge them under.
func (b *Binder) findRecord(ctx context.Context, c *found) ([]bind.Image, map[string][]byte, error) {
	name, err := reference.Normalise(c.meta.ImageName)
	if err != nil {
		return nil, nil, err
	}
	if c.all, err = b.store.imagesOf(ctx, c.driver); err != nil {
		return nil, nil, err
	}
	image, ok := c.all[c.record.Image]
	if !ok {
		return nil, nil, code.Refuse(code.NoRecord, "storage has no image "+c.record.Image, "the record that a pull leaves", "pull the image by its name")
	}
	c.image = &image
	names := namesOf(c.image)
	docs := b.documentsOf(c.driver, c.image, wanted(names, name))
	candidates := docs.candidates(c.config)
	switch {
	case len(candidates) == 0 && docs.damage != nil:
		return nil, nil, docs.damage
	case len(candidates) == 0:
		return nil, nil, partial(image.ID)
	}
	images, err := named(c, name, names, candidates)
	for i := range images {
		images[i].Beside = docs.beside
	}
	return images, docs.rawOf(candidates), err
}

// named gives the image under the repository of its name, or, for a name in ID
// form, under each repository that the record names.
func named(c *found, name reference.Name, names []written, candidates []bind.Candidate) ([]bind.Image, error) {
	if !name.IDForm {
		if !slices.ContainsFunc(names, func(n written) bool { return n.Repository == name.Repository }) {
			return nil, c.moved(name)
		}
		if name.Digest != "" {
			candidates = slices.DeleteFunc(candidates, func(d bind.Candidate) bool { return d.Index != name.Digest && d.Manifest != name.Digest })
		}
		if len(candidates) == 0 {
			return nil, code.Refuse(code.NotWhatRuns, fmt.Sprintf("the image record %s has nothing with the digest in the name %s", c.image.ID, name),
				"the digest in its name", "pull the image again")
		}
		return []bind.Image{{Name: c.meta.ImageName, Repository: name.Repository, Candidates: candidates}}, nil
	}
	var images []bind.Image
	known := map[string]bool{}
	for _, n := range names {
		if !known[n.Repository] {
			known[n.Repository] = true
			images = append(images, bind.Image{Name: n.text, Repository: n.Repository, Candidates: candidates})
		}
	}
	if len(images) > maxRepositories {
		return nil, malformed("image "+c.image.ID, fmt.Sprintf("it is named by its ID and has names in over %d repositories", maxRepositories))
	}
	for i := range images {
		images[i].ByID = len(images) > 1
	}
	if len(images) == 0 {
		images = []bind.Image{{Name: c.meta.ImageName, Candidates: candidates}}
	}
	return images, nil
}

// moved says why the container's image does not go by a name: the name leads
// elsewhere, or nowhere.
func (c *found) moved(name reference.Name) error {
	for _, image := range c.all {
		if slices.ContainsFunc(namesOf(&image), func(n written) bool { return n.Repository == name.Repository }) {
			return code.Refuse(code.NotWhatRuns, fmt.Sprintf("image %s, which the container uses, has no name of %s", c.image.ID, name.Repository),
				"the name to lead to the container's own image", "pull the image again and create the container anew")
		}
	}
	return code.Refuse(code.NoRecord, "no image record has the name "+name.String()+", nor another of its repository",
		"the record that a pull leaves", "pull the image by this name")
}

// written is a name of an image record.
type written struct {
	reference.Name
	text string
}

func namesOf(image *imageRecord) []written {
	var names []written
	for _, text := range image.Names {
		if n, err := reference.Normalise(text); err == nil && !n.IDForm {
			names = append(names, written{n, text})
		}
	}
	slices.SortFunc(names, func(a, b written) int { return slices.Compare([]byte(a.text), []byte(b.text)) })
	return names
}

// wanted gives the digests that an image's names lead to: those of the container's own
// name and its repository, else of each repository in turn, so that none of them hides
// another's.
func wanted(names []written, own reference.Name) []string {
	var found []string
	if own.Digest != "" {
		found = append(found, own.Digest)
	}
	var repositories []string
	digests := map[string][]string{}
	for _, n := range names {
		if n.Digest == "" || (!own.IDForm && n.Repository != own.Repository) {
			continue
		}
		if len(digests[n.Repository]) == 0 {
			repositories = append(repositories, n.Repository)
		}
		digests[n.Repository] = append(digests[n.Repository], n.Digest)
	}
	for turn, more := 0, true; more; turn++ {
		more = false
		for _, repository := range repositories {
			if own := digests[repository]; turn < len(own) {
				found, more = append(found, own[turn]), true
			}
		}
	}
	return found
}

func outcome(images []bind.Image) string {
	if len(images) == 0 || len(images[0].Candidates) == 0 {
		return "none"
	}
	text := ""
	for i, image := range images {
		if i > 0 {
			text += "; "
		}
		if i == maxShown {
			text += fmt.Sprintf("and %d more", len(images)-i)
			break
		}
		text += image.Name
	}
	c := images[0].Candidates[0]
	if c.Index != "" {
		return fmt.Sprintf("%s: index %s, manifest %s, config %s", text, c.Index, c.Manifest, c.Config)
	}
	return fmt.Sprintf("%s: manifest %s, config %s", text, c.Manifest, c.Config)
}
