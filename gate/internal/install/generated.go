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
)

// generators are the units that hold a containerd and write its configuration at each
// start, from a template if there is one (docs.k3s.io, "Advanced": containerd).
var generators = []string{"k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service"}

const (
	ownUnit    = "containerd.service"
	generated  = "/agent/etc/containerd/config.toml"
	template   = "config-v3.toml.tmpl" // for containerd 2
	dropIns    = "config-v3.toml.d"    // which newer ones import
	fromBase   = `{{ template "base" . }}`
	dropInName = "90-countersign.toml"
)

// held says what holds this containerd, and where its settings go then.
func (n *node) held() error {
	switch unit := n.found.Unit; {
	case unit == "":
		return errors.New("containerd is not a systemd unit here, so it could not be restarted; this node is left as it is")
	case unit == ownUnit:
		return nil
	case !slices.Contains(generators, unit) || !strings.HasSuffix(n.found.File, generated):
		return fmt.Errorf("containerd runs inside %s by %s, and how that is configured is not known; this node is left as it is", unit, n.found.File)
	}
	beside := filepath.Dir(n.found.File)
	imported, _ := n.found.Config["imports"].([]any)
	if slices.Contains(imported, any(filepath.Join(beside, dropIns, "*.toml"))) {
		n.dropIn = filepath.Join(beside, dropIns, dropInName)
		return nil
	}
	n.template = filepath.Join(beside, template)
	content, err := os.ReadFile(n.template)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case n.importsOurs(string(content)):
	case imports.Match(content):
		return fmt.Errorf("%s has imports of its own: add %q to them; this node is left as it is", n.template, n.dropIn)
	case len(imported) > 0:
		return fmt.Errorf("%s of %s imports files already, and its template could not say so twice; this node is left as it is", n.found.File, n.found.Unit)
	}
	return nil
}

func (n *node) importLine() string { return fmt.Sprintf("imports = [%q]\n", n.dropIn) }

func (n *node) importsOurs(text string) bool { return strings.HasPrefix(text, n.importLine()) }

// importByTemplate has the template import our drop-in, and containerd say what it would
// do by that: what it reads now is written anew at its next start only.
func (n *node) importByTemplate(ctx context.Context) (map[string]any, error) {
	text := fromBase + "\n"
	mode := fs.FileMode(0o600)
	if content, err := os.ReadFile(n.template); err == nil {
		text = string(content)
		if info, err := os.Stat(n.template); err == nil {
			mode = info.Mode().Perm()
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !n.importsOurs(text) {
		if err := n.put([]file{{n.template, []byte(n.importLine() + text), mode}})(); err != nil {
			return nil, err
		}
	}
	now, err := os.ReadFile(n.found.File)
	if err != nil {
		return nil, err
	}
	coming, err := importing(now, n.found.File, n.dropIn)
	if err != nil || coming == nil {
		return nil, errors.Join(err, fmt.Errorf("%s can't be told what it would be", n.found.File))
	}
	preview := filepath.Join(n.run, "containerd-next.toml")
	if err := os.WriteFile(preview, coming, 0o600); err != nil {
		return nil, err
	}
	effective, err := n.dump(ctx, n.found, preview)
	return effective, errors.Join(err, os.Remove(preview))
}
