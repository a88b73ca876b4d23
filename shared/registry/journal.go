package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
)

const (
	maxManifest = 4 << 20 // the distribution specification's own advice
	noReferrers = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
)

// change is one accepted PUT or DELETE of a manifest.
type change struct {
	Method      string `json:"method"`
	Path        string `json:"path"`
	ContentType string `json:"contentType,omitempty"`
	Body        []byte `json:"body,omitempty"`
}

// journal passes requests on to a registry, and keeps its manifests in a file.
type journal struct {
	next http.Handler
	file *os.File
	lock sync.Mutex // the file has the changes in the order in which they were made
}

// open replays the file into next. Half a line at its end, from a crash while it was
// written, was never acknowledged and is cut off.
func open(path string, next http.Handler) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	good, err := replay(file, next)
	if err == nil {
		err = file.Truncate(good)
	}
	if err == nil {
		_, err = file.Seek(good, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &journal{next: next, file: file}, nil
}

// replay makes the changes of the file again and returns where the last whole line ends.
func replay(file io.Reader, next http.Handler) (good int64, err error) {
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return good, nil
		}
		if err != nil {
			return good, err
		}
		var c change
		if err := json.Unmarshal(line, &c); err != nil {
			return good, err
		}
		request := httptest.NewRequest(c.Method, c.Path, bytes.NewReader(c.Body))
		request.Header.Set("Content-Type", c.ContentType)
		next.ServeHTTP(httptest.NewRecorder(), request)
		good += int64(len(line))
	}
}

// ServeHTTP implements http.Handler.
func (j *journal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	kind := parts[max(0, len(parts)-2)]
	switch {
	case kind == "manifests" && (r.Method == http.MethodPut || r.Method == http.MethodDelete):
		j.change(w, r)
	case kind == "referrers" && r.Method == http.MethodGet:
		j.referrers(w, r)
	default:
		j.next.ServeHTTP(w, r)
	}
}

// change makes a change, and answers once it is in the file.
func (j *journal) change(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	j.lock.Lock()
	defer j.lock.Unlock()
	j.next.ServeHTTP(answer, r)
	if answer.Code < 300 {
		if err := j.write(change{r.Method, r.URL.Path, r.Header.Get("Content-Type"), body}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if subject := subjectOf(body); subject != "" {
			answer.Header().Set("OCI-Subject", subject)
		}
	}
	pass(w, answer)
}

func (j *journal) write(c change) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// referrers answers for a repository without manifests as the specification wants it: with an
// empty list. A 404 would say that there is no such API.
func (j *journal) referrers(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	j.next.ServeHTTP(answer, r)
	if answer.Code == http.StatusNotFound {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		io.WriteString(w, noReferrers)
		return
	}
	pass(w, answer)
}

// subjectOf returns the digest of what a manifest refers to, or "".
func subjectOf(manifest []byte) string {
	var m struct {
		Subject struct {
			Digest string `json:"digest"`
		} `json:"subject"`
	}
	if json.Unmarshal(manifest, &m) != nil {
		return ""
	}
	return m.Subject.Digest
}

func pass(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}
