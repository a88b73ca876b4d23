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
	"syscall"
	"time"
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

	Owner    *owner    `json:"owner,omitempty"` // nil of what an older version noted
	Modified time.Time `json:"modified,omitzero"`
}

// owner is whose a file is.
type owner struct {
	User  int `json:"user"`
	Group int `json:"group"`
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

	// Unproven says that no install has ended well here yet: one was cut off, and the next
	// takes back all of it where it fails. Older versions did not say so of those that did.
	Unproven bool `json:"unproven,omitempty"`

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

// proven remembers that an install ended well.
func (j *journal) proven() error {
	if !j.Unproven {
		return nil
	}
	j.Unproven = false
	return j.save()
}

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
	w := was{Path: path, Content: content, Mode: info.Mode() & settable, Modified: info.ModTime()}
	w.Owner = owned(info)
	return w, err
}

func owned(info fs.FileInfo) *owner {
	its, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return &owner{int(its.Uid), int(its.Gid)}
}

// settable are the bits of a file's mode that can be put back.
const settable = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

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
	return write(w)
}

// same says whether that is what lies there now.
func (w was) same() bool {
	now, err := look(w.Path)
	return err == nil && now.Absent == w.Absent && now.Target == w.Target && now.Mode == w.Mode && bytes.Equal(now.Content, w.Content)
}

// replace writes a file as a whole, whatever happens meanwhile.
func replace(path string, content []byte, mode fs.FileMode) error {
	return write(was{Path: path, Content: content, Mode: mode})
}

// write is replace, of a file whose owner and time may be known.
func write(w was) error {
	path := coming(w.Path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(w.Content)
	if w.Owner != nil {
		err = errors.Join(err, file.Chown(w.Owner.User, w.Owner.Group)) // before the mode: it clears bits of that
	}
	err = errors.Join(err, file.Chmod(w.Mode), file.Sync(), file.Close())
	if err == nil && !w.Modified.IsZero() {
		err = os.Chtimes(path, time.Time{}, w.Modified)
	}
	if err == nil {
		err = os.Rename(path, w.Path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// coming is where a file is written before it has its name.
func coming(path string) string {
	return filepath.Join(filepath.Dir(path), ".countersign-"+filepath.Base(path))
}

// link makes a symbolic link in place of whatever lies there.
func link(path, target string) error {
	temporary := coming(path)
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
