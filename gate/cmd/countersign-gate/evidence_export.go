package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"countersign/gate/internal/carried"
	"countersign/gate/internal/clean"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/reference"
)

// exported is what "evidence export --json" prints of an image.
type exported struct {
	Image      string `json:"image"`
	Signatures int    `json:"signatures"`
}

func ofExport(in *invocation, flags *flag.FlagSet) {
	flags.Var(&in.images, "image", "only the image `NAME@DIGEST`, or all of NAME; may be given more than once (default: all that is kept, proven or pushed)")
}

// exportEvidence writes what this node keeps to a file that "evidence import" reads on
// another. No network is used, and nothing is judged: whoever imports it does that.
func exportEvidence(c *invocation) int {
	to := c.arguments[0]
	if to == stdin && c.json {
		return c.misused(errors.New("--json and the archive can't both go to stdout: name a file"))
	}
	settings, err := c.settings()
	if err != nil {
		return c.misused(err)
	}
	store, err := openStore(settings)
	if err != nil {
		return c.fail(err)
	}
	sets, err := c.wanted(store)
	if err != nil {
		return c.misused(err)
	}
	images := carried.Grouped(sets)
	leftOut, err := packTo(to, c.stdout, images)
	if errors.Is(err, os.ErrExist) {
		return c.misused(fmt.Errorf("%s is there already: remove it, or name another file", to))
	}
	if err != nil {
		return c.fail(err)
	}
	if err := c.showExported(to, images, leftOut); err != nil {
		return c.fail(err)
	}
	return exitOK
}

// wanted reads what is to be exported: what was merely seen has satisfied nobody.
func (c *invocation) wanted(store *evidence.Store) ([]evidence.Set, error) {
	entries, err := store.List()
	if err != nil {
		return nil, err
	}
	for _, image := range c.images {
		repository, digest, exact := strings.Cut(image, "@")
		if err := reference.CheckRepository(repository); err != nil {
			return nil, fmt.Errorf("--image %q: %w (a store knows no tags: give NAME@DIGEST, or NAME for all of a repository)", image, err)
		}
		if exact && reference.CheckDigest(digest) != nil {
			return nil, fmt.Errorf("--image %q: expected NAME@sha256:HEX", image)
		}
		if !slices.ContainsFunc(entries, func(e evidence.Entry) bool { return isOf(e, image) && e.Kept != "seen" }) {
			return nil, fmt.Errorf("--image %q: this node keeps no evidence of it; see countersign-gate evidence list", image)
		}
	}
	var sets []evidence.Set
	for _, e := range entries {
		asked := len(c.images) == 0 || slices.ContainsFunc(c.images, func(image string) bool { return isOf(e, image) })
		if e.Kept == "seen" || !asked {
			continue
		}
		set, err := store.Get(e.Repository, e.Digest)
		if err != nil {
			return nil, err
		}
		for _, problem := range set.Problems {
			fmt.Fprintf(c.stderr, "warning: %s: %v\n", c.name, problem)
		}
		if !set.Empty() {
			sets = append(sets, set)
		}
	}
	if len(sets) == 0 {
		return nil, errors.New("this node keeps no evidence that has proven itself or was pushed; see countersign-gate evidence list")
	}
	return sets, nil
}

// isOf says whether an entry is of that image, or of that repository.
func isOf(e evidence.Entry, image string) bool {
	return image == e.Repository || image == e.Repository+"@"+e.Digest
}

// packTo makes a file that comes into being as a whole, or writes to stdout.
func packTo(name string, stdout io.Writer, images []carried.Evidence) (leftOut []string, err error) {
	if name == stdin {
		if cleaned, ok := stdout.(clean.Writer); ok {
			stdout = cleaned.To // an archive is no text
		}
		return carried.Pack(stdout, images)
	}
	if _, err := os.Lstat(name); err == nil {
		return nil, os.ErrExist
	}
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return nil, err
	}
	leftOut, err = carried.Pack(file, images)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = os.Link(file.Name(), name) // unlike a rename, it takes no other's place
	}
	return leftOut, errors.Join(err, os.Remove(file.Name()))
}

func (c *invocation) showExported(to string, images []carried.Evidence, leftOut []string) error {
	found := make([]exported, 0, len(images))
	for _, image := range images {
		one := exported{Image: image[0].Repository + "@" + image[0].Digest}
		for _, s := range image {
			one.Signatures += len(s.Attachments) + len(s.Bundles) + len(s.Envelopes) + len(s.Large)
		}
		found = append(found, one)
	}
	if c.json {
		return c.document(map[string]any{"version": "countersign.evidence-exported/v1", "file": to, "images": found, "leftOut": append([]string{}, leftOut...)})
	}
	for _, one := range found {
		fmt.Fprintf(c.stderr, "%s: %d signatures and attestations\n", one.Image, one.Signatures)
	}
	for _, one := range leftOut {
		fmt.Fprintf(c.stderr, "warning: %s was left out: a rule that asks for it refuses the image\n", one)
	}
	return nil
}
