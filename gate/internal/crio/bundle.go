package crio

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"countersign/gate/internal/code"
)

const (
	maxSpec = 8 << 20 // bytes of a bundle's config.json
	// checkpointFolder is where CRI-O unpacks a checkpoint before it restores a
	// container from it (checkpointctl, CheckpointDirectory).
	checkpointFolder = "checkpoint"
)

// artifactBlob is a blob of an OCI artifact, wherever its store lies.
var artifactBlob = regexp.MustCompile(`/artifacts/blobs/`)

// checkBundle is step 4: what the container has besides its own image. Image
// volumes and OCI artifacts are mounts whose names CRI-O does not keep, so that
// there is no scope to judge them under; a restored checkpoint is not an image at all.
// at is the bundle that the OCI runtime named.
func (b *Binder) checkBundle(c *found, at string) error {
	lasting, bundle := b.store.userdata(c.driver, c.record.ID)
	if resolve(at) != resolve(bundle) {
		return code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("the OCI runtime runs the bundle %.300q", at), bundle+", where CRI-O makes it",
			"correct crio.runRoot in gate.json")
	}
	for _, folder := range []string{lasting, bundle} {
		if _, err := os.Lstat(filepath.Join(folder, checkpointFolder)); !errors.Is(err, fs.ErrNotExist) {
			return code.Refuse(code.UnsupportedRuntime, "the container is restored from a checkpoint", "a container that starts from its image",
				"create it anew; to rule this out, set enable_criu_support = false in crio.conf")
		}
	}
	content, err := readPath(filepath.Join(bundle, "config.json"), maxSpec)
	if err != nil {
		return unreadable(err)
	}
	var spec struct {
		Mounts []mount `json:"mounts"`
	}
	if err := json.Unmarshal(content, &spec); err != nil {
		return code.Refuse(code.Malformed, "the bundle's config.json can't be read: "+err.Error(), "an OCI runtime spec", "look at CRI-O's log")
	}
	for _, m := range spec.Mounts {
		if m.holdsImage(filepath.Join(b.config.Root, "artifacts")) {
			return code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("an image or an OCI artifact is mounted at %.300s", m.Destination),
				"a container without image volumes: on CRI-O their names are not known", "copy the files into the container's image, or use another kind of volume")
		}
	}
	return nil
}

type mount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// holdsImage recognises what CRI-O makes of an image volume, an overlay (mountImage),
// and of an OCI artifact, its blobs bound one by one (mountArtifact). CRI-O makes
// no other overlay mounts.
func (m mount) holdsImage(artifacts string) bool {
	lower := func(option string) bool { return strings.HasPrefix(option, "lowerdir") }
	return m.Type == "overlay" || slices.ContainsFunc(m.Options, lower) ||
		artifactBlob.MatchString(m.Source) || (m.Source != "" && strings.HasPrefix(m.Source, "/") && under(m.Source, artifacts))
}
