package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// journalVersion is that of installed.json.
const journalVersion = "countersign.installed/v1"

// maxKept bounds a file whose former content is kept.
const maxKept = 128 << 20

// was is what lay at a path before install came.
type was struct {
	Path    string      `json:"path"`
	Absent  bool        `json:"absent,omitempty"`
	Content []byte      `json:"content,omitempty"`
	Mode    fs.FileMode `json:"mode,omitempty"`
	Target  string      `json:"target,omitempty"` // of a symbolic link
}

// journal remembers how a node was: it is written before each change, so that whatever
// is interrupted can be taken back.
type journal struct {
	Version string   `json:"version"`
	Runtime string   `json:"runtime"`          // the runtime's unit
	Folders []string `json:"folders"`          // made by install, in order
	Files   []was    `json:"files"`            // changed by install, in order
	Image   string   `json:"image,omitempty"`  // a name that install gave the sandbox image
	Socket  string   `json:"socket,omitempty"` // of the containerd that has it

	path string
}

// openJournal reads what an earlier install wrote, or begins a new one.
func openJournal(path string) (*journal, error) {
	j := &journal{Version: journalVersion, path: path}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = json.Unmarshal(content, j)
	}
	if err == nil && j.Version != journalVersion {
		err = fmt.Errorf("version %.40q, expected %q", j.Version, journalVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return j, nil
}

// empty says whether nothing was ever installed.
func (j *journal) empty() bool { return len(j.Files) == 0 && len(j.Folders) == 0 }

func (j *journal) save() error {
	content, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	return replace(j.path, content, 0o600)
}

// note remembers what lies at a path, unless an earlier install did.
func (j *journal) note(path string) error {
	if slices.ContainsFunc(j.Files, func(w was) bool { return w.Path == path }) {
		return nil
	}
	w, err := look(path)
	if err != nil {
		return err
	}
	j.Files = append(j.Files, w)
	return j.save()
}

// folder makes a folder, and remembers each that it had to make.
func (j *journal) folder(path string, mode fs.FileMode) error {
	var missing []string
	for dir := path; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, dir)
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Reverse(missing)
	j.Folders = append(j.Folders, missing...)
	if err := j.save(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) { // the journal's own is made already
		return err
	}
	return nil
}

// look says what lies at a path.
func look(path string) (was, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return was{Path: path, Absent: true}, nil
	case err != nil:
		return was{}, err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return was{Path: path, Target: target}, err
	case !info.Mode().IsRegular():
		return was{}, fmt.Errorf("%s is not a file", path)
	case info.Size() > maxKept:
		return was{}, fmt.Errorf("%s has %d bytes; at most %d can be kept to be put back", path, info.Size(), maxKept)
	}
	content, err := os.ReadFile(path)
	return was{Path: path, Content: content, Mode: info.Mode().Perm()}, err
}

// back puts what was there back.
func (w was) back() error {
	switch {
	case w.Absent:
		if err := os.Remove(w.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case w.Target != "":
		return link(w.Path, w.Target)
	}
	return replace(w.Path, w.Content, w.Mode)
}

// same says whether that is what lies there now.
func (w was) same() bool {
	now, err := look(w.Path)
	return err == nil && now.Absent == w.Absent && now.Target == w.Target && now.Mode == w.Mode && bytes.Equal(now.Content, w.Content)
}

// replace writes a file as a whole, whatever happens meanwhile.
func replace(path string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".countersign-")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// link makes a symbolic link in place of whatever lies there.
func link(path, target string) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
