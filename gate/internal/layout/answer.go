package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"slices"

	"countersign/gate/internal/reference"
)

const blobs = "blobs/sha256"

// each gives the name and content of every blob that is small enough for a manifest
// that refers to another, in the order of their names.
func (l *Layout) each(ctx context.Context, do func(name string, content []byte)) error {
	folder, err := l.root.Open(blobs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	entries, err := folder.ReadDir(maxBlobs + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(entries) > maxBlobs {
		return fmt.Errorf("%s has over %d files", blobs, maxBlobs)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, entry := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxReferrer || reference.CheckDigest("sha256:"+entry.Name()) != nil {
			continue // a layer, or what is not a blob
		}
		content, err := l.read(path.Join(blobs, entry.Name()), maxReferrer)
		if err != nil {
			return err
		}
		do(entry.Name(), content)
	}
	return nil
}

func missing(req *http.Request) *http.Response {
	return answer(req, http.StatusNotFound, "text/plain", http.NoBody, 0)
}

func found(req *http.Request, mediaType string, body io.ReadCloser, size int64) *http.Response {
	return answer(req, http.StatusOK, mediaType, body, size)
}

func answer(req *http.Request, status int, mediaType string, body io.ReadCloser, size int64) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {mediaType}}, Body: body, ContentLength: size, Request: req,
	}
}
