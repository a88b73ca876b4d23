package crio

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"countersign/gate/internal/code"
)

// The records of containers/storage (containers.go, images.go, layers.go), as far
// as they are read.
type (
	containerRecord struct {
		ID       string `json:"id"`
		Image    string `json:"image"`
		Layer    string `json:"layer"`
		Metadata string `json:"metadata"`
	}
	imageRecord struct {
		ID           string   `json:"id"`
		Names        []string `json:"names"`
		TopLayer     string   `json:"layer"`
		MappedLayers []string `json:"mapped-layers"`
		BigData      []string `json:"big-data-names"`
	}
	layerRecord struct {
		ID         string `json:"id"`
		Parent     string `json:"parent"`
		DiffDigest string `json:"diff-digest"`
		TOCDigest  string `json:"toc-digest"`
	}
)

func (r containerRecord) id() string { return r.ID }
func (r imageRecord) id() string     { return r.ID }
func (r layerRecord) id() string     { return r.ID }

// store is containers/storage on this node: its root and run root, with a folder
// for each driver and kind ("overlay-containers").
type store struct {
	root, runRoot string
	containers    index[containerRecord]
	images        index[imageRecord]
	layers        index[layerRecord]
}

// drivers lists the graph drivers that have containers here.
func (s *store) drivers() ([]string, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, unreadable(err)
	}
	var found []string
	for _, entry := range entries {
		if driver, ok := strings.CutSuffix(entry.Name(), "-containers"); ok && driver != "" && entry.IsDir() {
			found = append(found, driver)
		}
	}
	return found, nil
}

// paths are the files that may hold records of a kind: the lasting ones, and the
// volatile ones, which lie in the run root in transient mode (newContainerStore,
// newLayerStore).
func (s *store) paths(driver, kind string) []string {
	folder := driver + "-" + kind
	if kind == "images" {
		return []string{filepath.Join(s.root, folder, "images.json")}
	}
	return []string{
		filepath.Join(s.root, folder, "volatile-"+kind+".json"),
		filepath.Join(s.root, folder, kind+".json"),
		filepath.Join(s.runRoot, folder, "volatile-"+kind+".json"),
	}
}

// container finds a container's record and the driver that it belongs to. More
// than one is none that could be trusted.
func (s *store) container(ctx context.Context, id string) (found *containerRecord, driver string, err error) {
	all, err := s.allContainers(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, c := range all {
		if c.record.ID != id {
			continue
		}
		if found != nil {
			return nil, "", code.Refuse(code.NotWhatRuns, "storage has two records of container "+id, "one", "remove the container")
		}
		found, driver = &c.record, c.driver
	}
	return found, driver, nil
}

type located struct {
	record containerRecord
	driver string
}

func (s *store) allContainers(ctx context.Context) ([]located, error) {
	drivers, err := s.drivers()
	if err != nil {
		return nil, err
	}
	var all []located
	for _, driver := range drivers {
		for _, path := range s.paths(driver, "containers") {
			records, err := s.containers.read(ctx, path)
			if err != nil {
				return nil, err
			}
			for _, r := range records {
				all = append(all, located{r, driver})
			}
		}
	}
	return all, nil
}

// imagesOf gives the image records of a driver.
func (s *store) imagesOf(ctx context.Context, driver string) (map[string]imageRecord, error) {
	return s.images.read(ctx, s.paths(driver, "images")[0])
}

// layer finds a layer's record; nil if there is none.
func (s *store) layer(ctx context.Context, driver, id string) (*layerRecord, error) {
	for _, path := range s.paths(driver, "layers") {
		records, err := s.layers.read(ctx, path)
		if err != nil {
			return nil, err
		}
		if r, ok := records[id]; ok {
			return &r, nil
		}
	}
	return nil, nil
}

// bigData reads one of an image's documents.
func (s *store) bigData(driver, image, key string) ([]byte, error) {
	return readPath(filepath.Join(s.root, driver+"-images", image, fileName(key)), maxDocument)
}

// sizeOf gives the size of one of an image's documents, in bytes; of what can't be
// looked at, none: reading it tells why.
func (s *store) sizeOf(driver, image, key string) int64 {
	info, err := os.Stat(filepath.Join(s.root, driver+"-images", image, fileName(key)))
	if err != nil {
		return 0
	}
	return min(info.Size(), maxDocument)
}

// userdata are the folders that CRI-O has of a container: the lasting one and the
// bundle.
func (s *store) userdata(driver, id string) (lasting, bundle string) {
	folder := filepath.Join(driver+"-containers", id, "userdata")
	return filepath.Join(s.root, folder), filepath.Join(s.runRoot, folder)
}

// under says whether path lies in folder, both with their symbolic links followed.
func under(path, folder string) bool {
	return path == folder || slices.ContainsFunc([]string{folder, resolve(folder)}, func(f string) bool {
		return strings.HasPrefix(resolve(path)+"/", f+"/") || strings.HasPrefix(filepath.Clean(path)+"/", f+"/")
	})
}

func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

func unreadable(err error) error {
	var refusal *code.Refusal
	if errors.As(err, &refusal) {
		return err
	}
	return code.Refuse(code.RuntimeUnreachable, "CRI-O's storage can't be read: "+err.Error(), "the files of containers/storage",
		"look at crio.root and crio.runRoot in gate.json, and at CRI-O's own root and runroot")
}
