package evidence

import (
	"errors"
	"os"
	"path/filepath"
)

// Dir gives a folder from which containers/image reads the attachments of the
// set in its dir: layout: the entry in the store itself if all that lies there
// can be read, or else a copy, so that one unreadable file hides no other
// signature. done removes the copy. The set must have its Manifest.
func (s Set) Dir() (dir string, done func() error, err error) {
	if s.Manifest == nil {
		return "", nil, errors.New("the manifest is not known")
	}
	if s.dir != "" {
		return s.dir, func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "countersign-evidence-")
	if err != nil {
		return "", nil, err
	}
	done = func() error { return os.RemoveAll(dir) }
	files := map[string][]byte{manifestFile: s.Manifest, versionFile: []byte(dirVersion)}
	for i, a := range s.Attachments {
		files[signatureName(i+1)] = a.blob()
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", nil, errors.Join(err, done())
		}
	}
	return dir, done, nil
}
