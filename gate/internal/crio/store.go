package crio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"countersign/gate/internal/code"
)

const (
	maxIndex = 64 << 20 // bytes of one of storage's JSON files
	// settled is how old a file must be when it is read for its records to be
	// remembered: clocks of file systems are coarse, and a younger one may change
	// again without a new time.
	settled = 100 * time.Millisecond
	// retries of a read that found a file half written or replaced meanwhile, and
	// the wait between them.
	retries = 4
	wait    = 3 * time.Millisecond
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

// identity tells one content of a file from another: storage replaces its files
// by renaming new ones over them.
type identity struct {
	device, inode  uint64
	size           int64
	changed, wrote int64 // nanoseconds
}

func identify(info fs.FileInfo) identity {
	id := identity{size: info.Size(), wrote: info.ModTime().UnixNano()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		id.device, id.inode, id.changed = uint64(s.Dev), s.Ino, s.Ctim.Nano()
	}
	return id
}

// index reads one kind of records and remembers them as long as their file stays
// what it was.
type index[R interface{ id() string }] struct {
	mu    sync.Mutex
	files map[string]remembered[R] // by path
}

type remembered[R any] struct {
	identity identity
	records  map[string]R
}

// read gives the records of a file by ID; of a file that does not exist, none.
// Storage's lock is not taken: a reader that holds it could stop the runtime. Its
// files are replaced as a whole, so that one of them is always at one with itself.
func (x *index[R]) read(ctx context.Context, path string) (records map[string]R, err error) {
	for try := 0; ; try++ {
		records, err = x.once(path)
		if err == nil || try == retries {
			break
		}
		select {
		case <-ctx.Done():
			return nil, unreadable(ctx.Err())
		case <-time.After(wait):
		}
	}
	if err != nil {
		return nil, unreadable(err)
	}
	return records, nil
}

func (x *index[R]) once(path string) (map[string]R, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	now := identify(info)
	x.mu.Lock()
	known, ok := x.files[path]
	x.mu.Unlock()
	if ok && known.identity == now {
		return known.records, nil
	}
	content, err := readFile(file, maxIndex)
	if err != nil {
		return nil, err
	}
	records, err := decode[R](content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	after, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if identify(after) != now && after.Size() != now.size {
		return nil, fmt.Errorf("%s changed while it was read", path)
	}
	if time.Since(info.ModTime()) > settled {
		x.mu.Lock()
		if x.files == nil {
			x.files = map[string]remembered[R]{}
		}
		x.files[path] = remembered[R]{now, records}
		x.mu.Unlock()
	}
	return records, nil
}

func decode[R interface{ id() string }](content []byte) (map[string]R, error) {
	var list []R
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, err
	}
	records := make(map[string]R, len(list))
	for _, r := range list {
		if _, twice := records[r.id()]; twice || r.id() == "" {
			return nil, fmt.Errorf("the ID %.80q stands there twice, or is empty", r.id())
		}
		records[r.id()] = r
	}
	return records, nil
}

// readFile reads a regular file to its end, within limit bytes.
func readFile(file *os.File, limit int64) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", file.Name())
	}
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s: %w: %d bytes", file.Name(), errTooLarge, limit)
	}
	return content, err
}

var errTooLarge = errors.New("over the bound")

// readPath is readFile for a path.
func readPath(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return readFile(file, limit)
}

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
