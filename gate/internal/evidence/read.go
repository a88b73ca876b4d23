package evidence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

const (
	maxFile = 4 << 20 // bytes, of any file that is read
	// maxPerKind bounds the signatures of one format in one entry: twice what a
	// look-up gives, so that what it finds never pushes out what the node has.
	maxPerKind = 128

	// maxLargePerEntry bounds large bundles in one entry.
	maxLargePerEntry = 8

	manifestFile    = "manifest.json"
	versionFile     = "version"
	provenFile      = "proven"
	seenFile        = "seen"
	signaturePrefix = "signature-"
	bundlePrefix    = "bundle-"
	envelopePrefix  = "notation-"

	// version of the dir: layout that is written.
	dirVersion = "Directory Transport Version: 1.1\n"
)

// useEvery is how exactly the last use of an entry is known.
const useEvery = time.Hour

// Get reads and checks all evidence of (repository, digest). What is missing is
// an empty set; what is there and cannot be used is among its problems. The
// error tells that the store itself cannot be read.
func (s *Store) Get(repository, digest string) (Set, error) {
	name, err := entryName(repository, digest)
	if err != nil {
		return Set{Repository: repository, Digest: digest}, err
	}
	set, err := s.read(name, repository, digest)
	return s.pending.merge(name, set), err
}

// read is Get without what is still to be written.
func (s *Store) read(name, repository, digest string) (Set, error) {
	set := Set{Repository: repository, Digest: digest}
	r := reader{dir: filepath.Join(s.config.Dir, name), set: &set}
	names, err := listDir(r.dir)
	if err != nil {
		return set, fmt.Errorf("evidence store: %w", err)
	}
	r.read(names)
	return set, nil
}

// listDir gives the names in dir; none where it is missing.
func listDir(dir string) ([]string, error) {
	file, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Readdirnames(-1)
}

// reader fills a set from the folder of an entry.
type reader struct {
	dir string
	set *Set
}

func (r *reader) read(names []string) {
	var numbers []int
	var bundles, envelopes []string
	for _, name := range names {
		if n, ok := signatureNumber(name); ok {
			numbers = append(numbers, n)
		} else if strings.HasPrefix(name, bundlePrefix) && strings.HasSuffix(name, ".json") {
			bundles = append(bundles, name)
		} else if strings.HasPrefix(name, envelopePrefix) && envelopeType(name) != "" {
			envelopes = append(envelopes, name)
		}
	}
	if slices.Contains(names, manifestFile) {
		r.manifest()
	}
	slices.Sort(numbers)
	slices.Sort(bundles)
	slices.Sort(envelopes)
	for _, n := range bound(r, "signatures", numbers) {
		r.attachment(signatureName(n))
	}
	for _, name := range bound(r, "bundles", bundles) {
		r.bundle(name)
	}
	for _, name := range bound(r, "envelopes", envelopes) {
		r.envelope(name)
	}
	if len(r.set.Attachments) == len(numbers) && (len(numbers) == 0 || numbers[len(numbers)-1] == len(numbers)) {
		r.set.dir = r.dir
	}
	if slices.Contains(names, provenFile) {
		r.set.proven = true
		r.markUse()
	}
}

// bound keeps the first maxPerKind of items, and notes where there are more.
func bound[T any](r *reader, what string, items []T) []T {
	if len(items) <= maxPerKind {
		return items
	}
	r.problem(code.Malformed, fmt.Sprintf("%d %s in %s", len(items), what, r.dir), fmt.Sprintf("at most %d", maxPerKind))
	return items[:maxPerKind]
}

func (r *reader) manifest() {
	data, ok := r.file(manifestFile, maxFile)
	if !ok {
		return
	}
	if got := "sha256:" + sum(data); got != r.set.Digest {
		r.problem(code.Tampered, fmt.Sprintf("%s has digest %s", filepath.Join(r.dir, manifestFile), got), r.set.Digest)
		return
	}
	r.set.Manifest = data
}

func (r *reader) attachment(name string) {
	data, ok := r.file(name, maxFile)
	if !ok {
		return
	}
	a, err := parseBlob(data)
	if err != nil {
		r.problem(code.Malformed, fmt.Sprintf("%s: %v", filepath.Join(r.dir, name), err), "a signature as containers/image stores it")
		return
	}
	r.set.Attachments = append(r.set.Attachments, a)
}

func (r *reader) bundle(name string) {
	path := filepath.Join(r.dir, name)
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() > MaxInMemory && info.Size() <= MaxLarge {
		r.large(Large{Sum: strings.TrimSuffix(strings.TrimPrefix(name, bundlePrefix), ".json"), Size: info.Size(), Path: path})
		return
	}
	data, ok := r.file(name, MaxInMemory)
	if !ok {
		return
	}
	if bundleName(Bundle{data}) != name {
		r.problem(code.Tampered, fmt.Sprintf("%s has digest sha256:%s", filepath.Join(r.dir, name), sum(data)), "the digest in its name")
		return
	}
	r.set.Bundles = append(r.set.Bundles, Bundle{data})
}

func (r *reader) envelope(name string) {
	data, ok := r.file(name, MaxEnvelope)
	if !ok {
		return
	}
	e := Envelope{envelopeType(name), data}
	if envelopeName(e) != name {
		r.problem(code.Tampered, fmt.Sprintf("%s has digest sha256:%s", filepath.Join(r.dir, name), sum(data)), "the digest in its name")
		return
	}
	r.set.Envelopes = append(r.set.Envelopes, e)
}

// large notes a bundle that whoever judges it compares with its sum.
func (r *reader) large(l Large) {
	switch {
	case reference.CheckDigest("sha256:"+l.Sum) != nil:
		r.problem(code.Malformed, l.Path+" is not named by a digest", "the digest in its name")
	case len(r.set.Large) == maxLargePerEntry:
		r.problem(code.Malformed, fmt.Sprintf("more large bundles in %s", r.dir), fmt.Sprintf("at most %d", maxLargePerEntry))
	default:
		r.set.Large = append(r.set.Large, l)
	}
}

// file reads at most limit bytes of a regular file of the entry.
func (r *reader) file(name string, limit int64) ([]byte, bool) {
	path := filepath.Join(r.dir, name)
	data, err := readFile(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false // evicted since it was listed
	}
	if err != nil {
		r.problem(code.Malformed, err.Error(), "a readable file of evidence")
		return nil, false
	}
	return data, true
}

func readFile(path string, limit int64) ([]byte, error) {
	// O_NONBLOCK: to open a named pipe must not hang.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, limit)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// markUse notes that a proven entry is in use. That it could not be noted only
// lets the entry look older.
func (r *reader) markUse() {
	path := filepath.Join(r.dir, provenFile)
	info, err := os.Stat(path)
	if now := time.Now(); err == nil && now.Sub(info.ModTime()) > useEvery {
		_ = os.Chtimes(path, now, now)
	}
}

func (r *reader) problem(c code.Code, found, expected string) {
	r.set.Problems = append(r.set.Problems, code.Refuse(c, found, expected, "remove the file; the gate then asks the registry"))
}

func signatureName(n int) string { return signaturePrefix + strconv.Itoa(n) }

func signatureNumber(name string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, signaturePrefix))
	return n, err == nil && n > 0 && signatureName(n) == name
}

func envelopeName(e Envelope) string { return envelopePrefix + e.ID() }

// envelopeType gives the media type of the envelope in a file of that name, or "".
func envelopeType(name string) string {
	for mediaType, ending := range EnvelopeTypes {
		if strings.HasSuffix(name, "."+ending) {
			return mediaType
		}
	}
	return ""
}

func bundleName(b Bundle) string { return bundlePrefix + b.ID() + ".json" }
