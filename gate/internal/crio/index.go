package crio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
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
	if after.Size() != now.size || after.ModTime().UnixNano() != now.wrote {
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
			return nil, fmt.Errorf("the ID %.80q is a duplicate, or empty", r.id())
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
		return nil, fmt.Errorf("%s is not a regular file", file.Name())
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
