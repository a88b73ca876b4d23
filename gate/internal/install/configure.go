package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// containerdToStart says whether containerd's settings are others, or were read before
// they were written.
func (n *node) containerdToStart(dropIn []byte, specs []file) func() (bool, error) {
	return func() (bool, error) {
		if (file{n.dropIn, dropIn, 0o644}).differs() || len(missing(map[string]any{"plugins": n.settings()}, n.found.Config)) > 0 {
			return true, nil
		}
		reads := append([]string{n.dropIn}, paths(specs)...)
		for _, path := range []string{n.found.File, n.template} {
			if path != "" && there(path) {
				reads = append(reads, path)
			}
		}
		return n.anyChanged(reads, n.found.Started)
	}
}

func paths(files []file) []string {
	found := make([]string, 0, len(files))
	for _, f := range files {
		found = append(found, f.path)
	}
	return found
}

// configure has containerd itself say that it would do what we ask and nothing less
// than before; only then it is restarted.
func (n *node) configure(ctx context.Context, dropIn []byte) error {
	if err := n.toRestart(n.found.Unit); err != nil {
		return err
	}
	if err := n.put([]file{{n.dropIn, dropIn, 0o644}})(); err != nil {
		return err
	}
	wanted := map[string]any{"plugins": n.settings()}
	effective, err := n.dump(ctx, n.found, n.found.File)
	if err != nil {
		return err
	}
	if len(missing(wanted, effective)) > 0 {
		if effective, err = n.imported(ctx); err != nil {
			return err
		}
	}
	if left := missing(wanted, effective); len(left) > 0 {
		return fmt.Errorf("containerd would not have %s by %s and %s; see which other import sets it", left[0], n.found.File, n.dropIn)
	}
	if gone := lost(n.found.Config, effective, wanted); len(gone) > 0 {
		return fmt.Errorf("containerd would lose its setting %s by %s", gone[0], n.dropIn)
	}
	return n.restartContainerd(ctx)
}

// imported has containerd's configuration import the drop-in, and gives what would be in
// effect then.
func (n *node) imported(ctx context.Context) (map[string]any, error) {
	if n.template != "" {
		return n.importByTemplate(ctx)
	}
	if err := n.importDropIn(); err != nil {
		return nil, err
	}
	return n.dump(ctx, n.found, n.found.File)
}

// importDropIn names the drop-in in containerd's own configuration, for one that does
// not look for drop-ins by itself.
func (n *node) importDropIn() error {
	content, err := os.ReadFile(n.found.File)
	mode := fs.FileMode(0o644)
	if errors.Is(err, fs.ErrNotExist) {
		content, err = []byte("version = 3\n"), nil
	} else if info, failed := os.Stat(n.found.File); failed == nil {
		mode = info.Mode().Perm()
	}
	if err != nil {
		return err
	}
	changed, err := importing(content, n.found.File, n.dropIn)
	if err != nil || changed == nil {
		return err
	}
	return n.put([]file{{n.found.File, changed, mode}})()
}

// restartContainerd restarts the runtime, and returns once it answers and asks the gate.
// Containers go on running.
func (n *node) restartContainerd(ctx context.Context) error {
	if err := n.restartUnit(ctx, n.found.Unit); err != nil || n.nri() == "" {
		return err
	}
	return n.connected(ctx, n.socket())
}

// restartUnit restarts the runtime, and returns once it answers.
func (n *node) restartUnit(ctx context.Context, unit string) error {
	if err := n.toRestart(unit); err != nil {
		return err
	}
	if _, err := n.systemctl(ctx, "restart", "--", unit); err != nil {
		return didNotStart(ctx, unit, err)
	}
	return answers(ctx, n.store)
}

// toRestart has uninstall restart the runtime: from now on it may run by our settings.
func (n *node) toRestart(unit string) error {
	n.journal.Runtime = unit
	return n.journal.save()
}

// answers returns once the runtime answers over CRI.
func answers(ctx context.Context, of store) (err error) {
	for deadline := time.Now().Add(comesBack); time.Now().Before(deadline); time.Sleep(pause) {
		if err = of.ready(ctx); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the runtime did not come back within %s: %w", comesBack, err)
}
