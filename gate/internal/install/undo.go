package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"countersign/gate/internal/prove"
)

// takeBack undoes this run: all of a first one, and of a later one what it changed.
func (n *node) takeBack(ctx context.Context) error {
	if n.first {
		_, err := uninstall(ctx, n.layout, n.systemctl, func(string) store { return n.store }, false)
		return err
	}
	err := back(n.touched)
	if len(n.touched) > 0 {
		err = errors.Join(err, n.startGate(ctx), n.runtime.restart(ctx))
	}
	return err
}

// back puts files back as they were, the last one first.
func back(files []was) error {
	var err error
	for _, w := range slices.Backward(files) {
		if !w.same() {
			err = errors.Join(err, w.back())
		}
	}
	return err
}

// Uninstalled says what Uninstall did, or would do.
type Uninstalled struct {
	Version string   `json:"version"`
	Files   []string `json:"files"`   // removed, or put back as they were
	Changed int      `json:"changed"` // how many
}

// UninstalledVersion is that of what Uninstall gives, as JSON.
const UninstalledVersion = "countersign.uninstalled-node/v1"

// Uninstall takes enforcement off this node: the runtime first, which then needs none of
// the rest; containers go on running. A node that has nothing of install's stays as it
// is.
func Uninstall(ctx context.Context, plan bool) (*Uninstalled, error) {
	return uninstall(ctx, system, systemctl, func(socket string) store { return images{socket} }, plan)
}

func uninstall(ctx context.Context, l layout, systemctl func(context.Context, ...string) (string, error), at func(socket string) store, plan bool) (*Uninstalled, error) {
	done := &Uninstalled{Version: UninstalledVersion, Files: []string{}}
	j, err := openJournal(l.journal())
	if err != nil {
		return nil, err
	}
	if j.empty() {
		if _, err := os.Lstat(l.config()); err == nil {
			return nil, fmt.Errorf("%s is there, and install did not put it there: run the clean task of the machine that set this node up (./inv containerd.clean)", l.config())
		}
		return done, nil
	}
	for _, w := range slices.Backward(j.Files) {
		if !w.same() {
			done.Files = append(done.Files, w.Path)
		}
	}
	done.Changed = len(done.Files)
	if plan {
		return done, nil
	}
	outer := func(w was) bool { return isRuntimes(l, w.Path) }
	runtime := slices.DeleteFunc(slices.Clone(j.Files), func(w was) bool { return !outer(w) })
	rest := slices.DeleteFunc(slices.Clone(j.Files), outer)
	if l.crioCerts != "" { // of a proof that was killed
		if err := os.RemoveAll(filepath.Join(l.crioCerts, prove.Registry)); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(unfinished(j.Files), back(runtime)); err != nil { // CRI-O reads whatever lies there
		return nil, err
	}
	if j.Runtime != "" {
		if _, err := systemctl(ctx, "restart", "--", j.Runtime); err != nil {
			return nil, fmt.Errorf("the runtime's own configuration is back, and it does not start by it: %w", err)
		}
	}
	if j.Image != "" {
		if err := forget(ctx, at(j.Socket), j.Image); err != nil {
			return nil, err
		}
	}
	_, err = systemctl(ctx, "disable", "--now", "--", unit) // fails where it was never enabled
	if there(l.units+"/"+unit) && err != nil {
		return nil, err
	}
	own := func(w was) bool { return w.Path == l.gate() }
	if err := back(slices.DeleteFunc(slices.Clone(rest), own)); err != nil {
		return nil, err
	}
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return nil, err
	}
	if err := unmake(l, j.Folders); err != nil {
		return nil, err
	}
	// Last, for whoever is killed before is asked again: the program that does this, and
	// what it knows this by.
	if err := back(slices.DeleteFunc(rest, func(w was) bool { return !own(w) })); err != nil {
		return nil, err
	}
	err = os.Remove(j.path)
	if slices.Contains(j.Folders, l.lib) {
		err = os.RemoveAll(l.lib)
	}
	return done, errors.Join(err, unmake(l, j.Folders)) // those above the last two
}

// unfinished removes what was written of files by whoever was killed then.
func unfinished(files []was) error {
	var err error
	for _, w := range files {
		names := []string{coming(w.Path)}
		if name := filepath.Base(w.Path); strings.HasPrefix(name, plugin) { // our own, which a policy may write
			found, _ := filepath.Glob(filepath.Join(filepath.Dir(w.Path), "."+name+".*")) // a pattern that is good
			names = append(names, found...)
		}
		for _, name := range names {
			if failed := os.Remove(name); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
				err = errors.Join(err, failed)
			}
		}
	}
	return err
}

// unmake removes the folders that install made, but for the one that knows it.
func unmake(l layout, folders []string) error {
	var err error
	for _, path := range slices.Backward(folders) {
		switch {
		case path == l.lib:
		case slices.Contains([]string{l.etc, l.run, l.log, l.evidence()}, path):
			err = errors.Join(err, os.RemoveAll(path)) // the gate's own
		default:
			if failed := os.Remove(path); failed != nil && !errors.Is(failed, fs.ErrNotExist) && !errors.Is(failed, unix.ENOTEMPTY) {
				err = errors.Join(err, failed) // what others use by now stays
			}
		}
	}
	return err
}

// forget takes a name of an image away, once the runtime is back.
func forget(ctx context.Context, from store, name string) error {
	if err := answers(ctx, from); err != nil {
		return err
	}
	return from.forget(ctx, name)
}

// isRuntimes says whether a file is one that the runtime reads to find the rest.
func isRuntimes(l layout, path string) bool {
	return !slices.ContainsFunc([]string{l.bin, l.etc, l.units, l.verifiers, l.lib}, func(folder string) bool {
		return strings.HasPrefix(path, folder+"/")
	})
}
