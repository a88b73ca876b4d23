package bind

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Labels that hold the user namespace's mapping (containerd, core/snapshots).
const (
	labelUIDMapping = "containerd.io/snapshot/uidmapping"
	labelGIDMapping = "containerd.io/snapshot/gidmapping"
)

// layers is what a snapshot stands on.
type layers struct {
	parent string
	remap  *remap // what the parent may be, where the snapshot has a user namespace's mapping
}

// remap is a snapshot whose files containerd shifted to other owners for a user
// namespace, where the snapshotter can't do it by itself (client/snapshotter_opts_unix.go).
// Its name is the digest of this very form.
type remap struct {
	Parent string
	IDMap  idMap
}

type idMap struct {
	UidMap []specs.LinuxIDMapping
	GidMap []specs.LinuxIDMapping
}

// layersOf asks a snapshotter for the parent of a container's or volume's snapshot.
func (s *session) layersOf(ctx context.Context, snapshotter, key string) (*layers, error) {
	info, err := s.stat(ctx, snapshotter, key)
	if err != nil {
		return nil, err
	}
	l := &layers{parent: info.GetParent()}
	mapping, ok := mappingOf(info.GetLabels())
	if !ok || l.parent == "" {
		return l, nil
	}
	below, err := s.stat(ctx, snapshotter, l.parent)
	if err != nil {
		return nil, err
	}
	l.remap = &remap{Parent: below.GetParent(), IDMap: mapping}
	return l, nil
}

// standsOn says whether the snapshot's layers are those of a chain ID: its parent
// is that chain ID, or a remapped snapshot whose name, recomputed from the
// mapping, is the parent's and which itself stands on the chain ID.
func (l *layers) standsOn(chain digest.Digest) bool {
	if l.parent == chain.String() {
		return true
	}
	return l.remap != nil && chain != "" && l.remap.Parent == chain.String() && l.remap.name() == l.parent
}

// name gives a remapped snapshot's name, as containerd computes it.
func (r remap) name() string {
	byContainerID := func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) }
	slices.SortStableFunc(r.IDMap.UidMap, byContainerID)
	slices.SortStableFunc(r.IDMap.GidMap, byContainerID)
	document, err := json.Marshal(r)
	if err != nil { // can't be: strings and numbers only
		return ""
	}
	return digest.FromBytes(document).String()
}

func mappingOf(labels map[string]string) (idMap, bool) {
	uids, gids := labels[labelUIDMapping], labels[labelGIDMapping]
	if uids == "" && gids == "" {
		return idMap{}, false
	}
	var m idMap
	var ok bool
	if m.UidMap, ok = parseMapping(uids); !ok {
		return idMap{}, false
	}
	m.GidMap, ok = parseMapping(gids)
	return m, ok
}

// parseMapping reads "container:host:size", comma-separated.
func parseMapping(text string) ([]specs.LinuxIDMapping, bool) {
	if text == "" {
		return nil, true
	}
	var mappings []specs.LinuxIDMapping
	for part := range strings.SplitSeq(text, ",") {
		var numbers [3]uint32
		fields := strings.Split(part, ":")
		if len(fields) != len(numbers) {
			return nil, false
		}
		for i, field := range fields {
			n, err := strconv.ParseUint(field, 10, 32)
			if err != nil {
				return nil, false
			}
			numbers[i] = uint32(n)
		}
		mappings = append(mappings, specs.LinuxIDMapping{ContainerID: numbers[0], HostID: numbers[1], Size: numbers[2]})
	}
	return mappings, true
}
