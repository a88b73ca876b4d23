// Package carried reads evidence that is carried to a node in a file: a tar archive
// (docs/air-gap.md) of evidence.json, which names the images, and of one image layout
// for each, without layers. The archive is hostile: what is not as it has to be ends
// the reading, and nothing leads out of the folder that it is unpacked to.
package carried

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"countersign/gate/internal/reference"
)

// Version is that of evidence.json.
const Version = "countersign.evidence/v1"

// Bounds of an archive.
const (
	maxBytes     = 256 << 20 // of all files
	maxFile      = 4 << 20
	maxFiles     = 20_000
	maxImages    = 256
	maxManifests = 256 // of one image
	contents     = "evidence.json"
)

// member is what a file of a layout may be called: the image's number, and the path.
var member = regexp.MustCompile(`^([0-9]{1,3})/(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})$`)

// Image is one image whose evidence is carried.
type Image struct {
	Name      string   `json:"name"`      // the repository with its registry
	Digest    string   `json:"digest"`    // of its index or manifest
	Manifests []string `json:"manifests"` // of its platforms
	Folder    string   `json:"folder"`    // of its layout
}

// Unpack reads an archive into the empty folder dir.
func Unpack(archive io.Reader, dir string) ([]Image, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	last := lastBlock{from: archive}
	reader := tar.NewReader(&last)
	var left int64 = maxBytes
	for files := 0; ; files++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) && !last.zero() {
			return nil, errors.New("cut off between two of its files, or no tar archive")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cut off, or no tar archive: %w", err)
		}
		if files == maxFiles {
			return nil, fmt.Errorf("over %d files", maxFiles)
		}
		if left -= header.Size; left < 0 {
			return nil, fmt.Errorf("over %d bytes", int64(maxBytes))
		}
		if err := put(root, header, reader); err != nil {
			return nil, err
		}
	}
	return images(root)
}

// lastBlock remembers the last block of what is read through it. An archive ends with one
// of zeros; one that was cut off between two files looks whole else.
type lastBlock struct {
	from  io.Reader
	block []byte
}

const blockSize = 512

func (l *lastBlock) Read(p []byte) (int, error) {
	n, err := l.from.Read(p)
	l.block = append(l.block, p[max(0, n-blockSize):n]...)
	l.block = l.block[max(0, len(l.block)-blockSize):]
	return n, err
}

func (l *lastBlock) zero() bool { return bytes.Equal(l.block, make([]byte, blockSize)) }

// put writes one file of the archive.
func put(root *os.Root, header *tar.Header, content io.Reader) error {
	if header.Typeflag != tar.TypeReg {
		return fmt.Errorf("%q is not a file", header.Name)
	}
	if header.Name != contents && !member.MatchString(header.Name) {
		return fmt.Errorf("%q is not part of evidence", header.Name)
	}
	if header.Size > maxFile {
		return fmt.Errorf("%q has over %d bytes", header.Name, maxFile)
	}
	if err := root.MkdirAll(path.Dir(header.Name), 0o700); err != nil {
		return err
	}
	file, err := root.OpenFile(header.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q is a duplicate", header.Name)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("cut off: %q: %w", header.Name, err)
	}
	return nil
}

// images reads what evidence.json names.
func images(root *os.Root) ([]Image, error) {
	raw, err := root.ReadFile(contents)
	if err != nil {
		return nil, fmt.Errorf("no evidence: %w", err)
	}
	var document struct {
		Version string  `json:"version"`
		Images  []Image `json:"images"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", contents, err)
	}
	if document.Version != Version {
		return nil, fmt.Errorf("%s has version %q, expected %s", contents, document.Version, Version)
	}
	if n := len(document.Images); n == 0 || n > maxImages {
		return nil, fmt.Errorf("%s names %d images, expected 1 to %d", contents, n, maxImages)
	}
	for _, image := range document.Images {
		if err := image.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", contents, err)
		}
		if _, err := root.Stat(path.Join(image.Folder, "index.json")); err != nil {
			return nil, fmt.Errorf("%s@%s: its layout is not there: %w", image.Name, image.Digest, err)
		}
	}
	return document.Images, nil
}

func (i Image) check() error {
	if err := reference.CheckRepository(i.Name); err != nil {
		return err
	}
	if len(i.Manifests) > maxManifests {
		return fmt.Errorf("%s has over %d manifests", i.Name, maxManifests)
	}
	for _, digest := range append([]string{i.Digest}, i.Manifests...) {
		if err := reference.CheckDigest(digest); err != nil {
			return err
		}
	}
	if strings.Trim(i.Folder, "0123456789") != "" || i.Folder == "" {
		return fmt.Errorf("%q is not a folder of evidence", i.Folder)
	}
	return nil
}
