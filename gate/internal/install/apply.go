package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"countersign/gate/internal/doctor"
)

// apply makes every step, in an order in which nothing restarts before all that it
// reads is there; with Plan it only says which would change something.
func (n *node) apply(ctx context.Context) error {
	gate, err := n.gateConfig([]string{n.sandbox})
	if err != nil {
		return err
	}
	before, err := n.runtime.before(ctx)
	if err != nil {
		return err
	}
	after, err := n.runtime.after(ctx)
	if err != nil {
		return err
	}
	programs, err := n.programs()
	if err != nil {
		return err
	}
	settings := []file{{n.config(), gate, 0o644}}
	if login := n.DockerConfig; login != nil || !there(n.logins()) {
		if login == nil {
			login = []byte("{\"auths\": {}}\n")
		}
		settings = append(settings, file{n.logins(), login, 0o600})
	}
	units := []file{{filepath.Join(n.units, unit), unitFile, 0o644}}
	if n.lacksResource {
		units = append(units, file{filepath.Join(n.units, unit+".d", "without-sys-resource.conf"), withoutResource, 0o644})
	}
	steps := slices.Concat([]step{
		{"folders", n.foldersMissing, n.makeFolders},
		{"programs in " + n.bin, n.differ(programs), n.put(programs)},
		{"gate.json and logins in " + n.etc, n.differ(settings), n.put(settings)},
		{"policy", n.policyDiffers, n.putPolicy},
	}, before, []step{
		{"the gate runs as " + unit, n.gateToStart(ctx, slices.Concat(programs[:1], settings[:1], units)), func() error { return errors.Join(n.put(units)(), n.startGate(ctx)) }},
	}, after)
	for _, step := range steps {
		needed, err := step.needed()
		if err == nil && needed && !n.Plan {
			err = step.apply()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		n.result.Steps = append(n.result.Steps, Step{step.name, needed})
		if needed {
			n.result.Changed++
			n.Say(step.name)
		}
	}
	return nil
}

// step is one thing that has to hold.
type step struct {
	name   string
	needed func() (bool, error)
	apply  func() error
}

// file is one that has to be on the node.
type file struct {
	path    string
	content []byte
	mode    fs.FileMode
}

func (n *node) programs() ([]file, error) {
	found := []file{}
	for _, name := range []string{gateName, hookName} {
		content, err := os.ReadFile(filepath.Join(n.Programs, name))
		if err != nil {
			return nil, err
		}
		found = append(found, file{filepath.Join(n.bin, name), content, 0o755})
	}
	return found, nil
}

func (f file) differs() bool {
	return !was{Path: f.path, Content: f.content, Mode: f.mode}.same()
}

func (n *node) differ(files []file) func() (bool, error) {
	return func() (bool, error) { return slices.ContainsFunc(files, file.differs), nil }
}

// put writes what differs, and remembers what was there.
func (n *node) put(files []file) func() error {
	return func() error {
		for _, f := range files {
			if !f.differs() {
				continue
			}
			if err := n.change(f.path, func() error { return replace(f.path, f.content, f.mode) }); err != nil {
				return err
			}
		}
		return nil
	}
}

// change changes one file, in a way that can be taken back.
func (n *node) change(path string, how func() error) error {
	if err := n.journal.folder(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := n.journal.note(path); err != nil {
		return err
	}
	before, err := look(path)
	if err != nil {
		return err
	}
	n.touched = append(n.touched, before)
	return how()
}

// folders are all of ours, with their modes.
func (n *node) folders() []file {
	found := []file{}
	for _, path := range []string{n.lib, n.evidence(), n.run, n.log} {
		found = append(found, file{path: path, mode: 0o700})
	}
	for _, path := range []string{n.bin, n.etc} {
		found = append(found, file{path: path, mode: 0o755})
	}
	return append(found, n.runtime.folders()...)
}

// writable says where this node is read-only, before anything is changed.
func (n *node) writable() error {
	folders := append(append(n.folders(), file{path: n.units}), n.runtime.writes()...)
	for _, f := range folders {
		dir := f.path
		for !there(dir) {
			dir = filepath.Dir(dir)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("%s is not a folder (%v), and enforcement needs %s; this node is left as it is", dir, err, f.path)
		}
		if err := unix.Access(dir, unix.W_OK); err != nil {
			return fmt.Errorf("%s can't be written to (%w), and enforcement needs %s; this node is left as it is", dir, err, f.path)
		}
	}
	return nil
}

func (n *node) foldersMissing() (bool, error) {
	return slices.ContainsFunc(n.folders(), func(f file) bool { return !there(f.path) }), nil
}

func (n *node) makeFolders() error {
	for _, f := range n.folders() {
		if err := n.journal.folder(f.path, f.mode); err != nil {
			return err
		}
	}
	return nil
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (n *node) policyDiffers() (bool, error) {
	done, err := n.policyFile().Install("the policy", n.Policy, n.Signatures, false, true)
	return done.Changed, err
}

func (n *node) putPolicy() error {
	paths := []string{n.layout.policy(), n.layout.policy() + ".sig"}
	if n.Crio {
		paths = append(paths, n.registriesD, n.layout.enginePolicy())
	}
	for _, path := range paths {
		if err := n.change(path, func() error { return nil }); err != nil {
			return err
		}
	}
	_, err := n.policyFile().Install("the policy", n.Policy, n.Signatures, false, false)
	return err
}

func (n *node) unlinked() (bool, error) {
	return !was{Path: n.verifier(), Target: n.gate()}.same(), nil
}

func (n *node) linkVerifier() error {
	return n.change(n.verifier(), func() error { return link(n.verifier(), n.gate()) })
}

// gateToStart says whether the gate is down, or was started before what it reads.
func (n *node) gateToStart(ctx context.Context, reads []file) func() (bool, error) {
	return func() (bool, error) {
		if n.first || slices.ContainsFunc(reads, file.differs) {
			return true, nil
		}
		pid, err := n.mainPID(ctx)
		if err != nil || pid == 0 {
			return true, err
		}
		since, err := n.started(pid)
		if err != nil {
			return true, nil // it ended meanwhile
		}
		return n.anyChanged(paths(reads), since)
	}
}

// anyChanged says whether one of these files was changed by this run, or since a process
// started that reads it; one that is missing was.
func (n *node) anyChanged(paths []string, since time.Time) (bool, error) {
	for _, path := range paths {
		if slices.ContainsFunc(n.touched, func(w was) bool { return w.Path == path }) {
			return true, nil
		}
		later, err := doctor.ChangedSince(path, since)
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		if later || err != nil {
			return true, err
		}
	}
	return false, nil
}

func (n *node) sandboxUnnamed(ctx context.Context) func() (bool, error) {
	return func() (bool, error) {
		if n.sandboxNamed == "" {
			return false, nil
		}
		digest, err := n.store.digest(ctx, n.sandbox)
		return digest == "", err
	}
}
