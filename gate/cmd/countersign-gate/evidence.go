package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/carried"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/layout"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/registry"
)

// imported is what "evidence import --json" prints of an image.
type imported struct {
	Image   string `json:"image"`
	Allow   bool   `json:"allow"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Kept    int    `json:"kept"` // entries of the store
}

// importEvidence keeps carried evidence on this node, each image's if the node's own
// policy allows the image by it. No network is used.
func importEvidence(c *invocation) (exit int) {
	settings, err := c.settings()
	if err != nil {
		return c.misused(err)
	}
	p, err := settings.PolicyFile().Load()
	if err != nil {
		return c.fail(err)
	}
	dir, err := os.MkdirTemp("", "countersign-evidence-")
	if err != nil {
		return c.fail(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil && exit == exitOK {
			exit = c.fail(err)
		}
	}()
	images, err := unpack(c.arguments[0], dir)
	if err != nil {
		return c.misused(fmt.Errorf("%s: %w", c.arguments[0], err))
	}
	node, err := openStore(settings)
	if err != nil {
		return c.fail(err)
	}
	found := make([]imported, 0, len(images))
	for number, image := range images {
		one, err := take(node, p, image, filepath.Join(dir, image.Folder), filepath.Join(dir, fmt.Sprintf("kept-%d", number)))
		if err != nil {
			return c.fail(fmt.Errorf("%s@%s: %w", image.Name, image.Digest, err))
		}
		found = append(found, one)
	}
	if err := c.showImported(found); err != nil {
		return c.fail(err)
	}
	if slices.ContainsFunc(found, func(one imported) bool { return !one.Allow }) {
		return exitRefused
	}
	return exitOK
}

// unpack reads the archive in a file, or from stdin.
func unpack(name, dir string) ([]carried.Image, error) {
	var source io.Reader = os.Stdin
	if name != stdin {
		file, err := bounded.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		source = file
	}
	return carried.Unpack(source, dir)
}

// take judges one image by what lies in its layout, with a store of its own, and keeps
// what allowed it in the node's.
func take(node *evidence.Store, p *policy.Policy, image carried.Image, from, scratch string) (one imported, err error) {
	folder, err := layout.Open(from)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	gate, store, err := inFolder(scratch, registry.Config{Transport: folder, Timeout: inProcessRegistry})
	if err != nil {
		return one, err
	}
	gate.SetPolicy(p)
	ctx, cancel := context.WithTimeout(context.Background(), inProcessVerdict+margin)
	defer cancel()
	v := gate.Carried(ctx, image.Name, image.Digest)
	one = imported{Image: image.Name + "@" + image.Digest, Allow: v.Allow, Code: string(v.Code), Message: v.Message}
	if !v.Allow {
		store.Flush()
		return one, nil
	}
	for _, digest := range image.Manifests { // a node of another platform rests on another manifest's
		gate.Carried(ctx, image.Name, digest)
	}
	store.Flush()
	for _, digest := range append([]string{image.Digest}, image.Manifests...) {
		set, err := store.Get(image.Name, digest)
		if err != nil {
			return one, err
		}
		if set.Empty() || !set.Proven() {
			continue
		}
		if err := node.Put(set, true); err != nil {
			return one, err
		}
		one.Kept++
	}
	return one, nil
}

func (c *invocation) showImported(found []imported) error {
	if c.json {
		return c.document(map[string]any{"version": "countersign.evidence-imported/v1", "images": found})
	}
	for _, one := range found {
		what := "refused, nothing kept: " + one.Message
		if one.Allow {
			what = fmt.Sprintf("%d entries kept: %s", one.Kept, one.Message)
		}
		if _, err := fmt.Fprintln(c.stdout, what); err != nil {
			return err
		}
	}
	return nil
}

// listEvidence prints what this node keeps.
func listEvidence(c *invocation) int {
	settings, err := c.settings()
	if err != nil {
		return c.misused(err)
	}
	store, err := openStore(settings)
	if err != nil {
		return c.fail(err)
	}
	entries, err := store.List()
	if err != nil {
		return c.fail(err)
	}
	if c.json {
		err = c.document(map[string]any{"version": "countersign.evidence-list/v1", "entries": entries})
	} else {
		for _, e := range entries {
			_, lineErr := fmt.Fprintf(c.stdout, "%s@%s %s %d bytes\n", e.Repository, e.Digest, e.Kept, e.Bytes)
			err = errors.Join(err, lineErr)
		}
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}
