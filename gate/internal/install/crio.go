package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"countersign/gate/internal/config"
	"countersign/gate/internal/containerspolicy"
	"countersign/gate/internal/doctor"
)

const (
	restores     = "checkpoint_restore" // the table of what checkpoints may be restored
	pinnedImages = "image/pinned_images"
)

const (
	crioUnit    = "crio.service"
	crioDropIn  = "99-countersign.conf" // the last one of the folder wins
	crioHook    = "countersign.json"
	crioHeading = "# countersign: what a CRI-O under enforcement has to say. Removed by countersign-gate uninstall, or ./inv crio.clean.\n"
	// ownRegistriesD is where containers' own configuration of a user comes first
	// (containers-registries.d(5)).
	ownRegistriesD = ".config/containers/registries.d"
)

// ofCrio is a node with CRI-O.
type ofCrio struct {
	*node
	crio *doctor.Crio
}

func (n *ofCrio) look(ctx context.Context) (err error) {
	if n.crio, err = n.surveyCrio(n.Socket); err != nil {
		return fmt.Errorf("CRI-O: %w; name its socket with --crio-socket", err)
	}
	switch {
	case n.crio.Refused != "":
		return errors.New(n.crio.Refused + "; this node is left as it is")
	case n.crio.Unit != crioUnit:
		return fmt.Errorf("CRI-O runs as %q, expected the systemd unit %s, so it could not be restarted; this node is left as it is", n.crio.Unit, crioUnit)
	}
	if err := n.installedFor(crioUnit); err != nil {
		return err
	}
	n.result.Runtime = "CRI-O " + n.crio.Version
	n.dropIn = filepath.Join(n.crio.DropIns, crioDropIn)
	if own := filepath.Join(n.crio.Home, ownRegistriesD); there(own) {
		n.registriesD = filepath.Join(own, filepath.Base(n.registriesD))
	}
	if err := n.writable(); err != nil {
		return err
	}
	named, _ := n.crio.At("image/pause_image").(string)
	n.sandbox, _, err = n.sandboxByDigest(ctx, "pause_image", named)
	return err
}

func (n *ofCrio) block() (string, any) {
	root, _ := n.crio.At("root").(string)
	run, _ := n.crio.At("runroot").(string)
	return "crio", config.Crio{
		Root: root, RunRoot: run, Socket: n.Socket, NRI: n.nri(), Hook: n.hook(),
		Engine: &config.CrioEngine{Policy: n.enginePolicy(), RegistriesD: n.registriesD, Lenient: n.Lenient},
	}
}

// nri gives the socket of NRI.
func (n *ofCrio) nri() string {
	if path, _ := n.crio.At("nri/nri_listen").(string); path != "" {
		return path
	}
	return defaultSocket
}

func (n *ofCrio) folders() []file {
	return []file{
		{path: filepath.Dir(n.enginePolicy()), mode: 0o755}, {path: n.hooks(), mode: 0o755},
		{path: n.namespaces(), mode: 0o700}, // a file in it would replace the policy
		{path: filepath.Dir(n.registriesD), mode: 0o755}, {path: n.crio.DropIns, mode: 0o755},
		{path: n.crioCerts, mode: 0o755}, // of the canary, while it is proven
	}
}

func (n *ofCrio) writes() []file { return nil }

func (n *ofCrio) before(context.Context) ([]step, error) {
	hook, err := n.hookFile()
	return []step{{"hook in " + n.hooks(), n.differ(hook), n.put(hook)}}, err
}

func (n *ofCrio) after(ctx context.Context) ([]step, error) {
	files, err := n.dropInFile()
	if err != nil {
		return nil, err
	}
	return []step{{"CRI-O by our settings", n.toStart(files), func() error { return n.configure(ctx, files) }}}, nil
}

// dropInFile is our file of crio.conf.d.
func (n *ofCrio) dropInFile() ([]file, error) {
	var content bytes.Buffer
	content.WriteString(crioHeading)
	err := toml.NewEncoder(&content).Encode(map[string]any{"crio": n.settings()})
	return []file{{n.dropIn, content.Bytes(), 0o644}}, err
}

// hookFile is our hook's file (oci-hooks(5)).
func (n *ofCrio) hookFile() ([]file, error) {
	content, err := json.MarshalIndent(map[string]any{
		"version": "1.0.0",
		"hook":    map[string]any{"path": n.hook(), "args": []string{hookName, "--socket", n.socket()}, "timeout": hookTimeout},
		"when":    map[string]any{"always": true},
		"stages":  []string{"createRuntime"},
	}, "", "  ")
	return []file{{filepath.Join(n.hooks(), crioHook), append(content, '\n'), 0o644}}, err
}

// settings gives what the configuration has to say, below "crio": what doctor looks for.
func (n *ofCrio) settings() map[string]any {
	wanted := map[string]any{}
	hooks := slices.DeleteFunc(slices.Clone(n.crio.Texts("runtime/hooks_dir")), func(path string) bool { return path == n.hooks() })
	table(wanted, "runtime")["hooks_dir"] = append(hooks, n.hooks()) // a later folder's hook replaces one of the same name
	for path, value := range n.crio.RestoresNone() {
		keys := strings.Split(path, "/")
		table(wanted, keys[:len(keys)-1]...)[keys[len(keys)-1]] = value
	}
	image := table(wanted, "image")
	// Set explicitly: by its default path CRI-O checks signatures at pulls only, and at no start.
	image["signature_policy"] = n.enginePolicy()
	image["signature_policy_dir"] = n.namespaces()
	image["pause_image"] = n.sandbox // by digest: no hook sees sandboxes
	nri := table(wanted, "nri")
	nri["enable_nri"], nri["nri_disable_connections"], nri["nri_listen"] = true, false, n.nri()
	validator := table(nri, "default_validator")
	validator["nri_enable_default_validator"] = true
	validator["nri_validator_tolerate_missing_plugins_annotation"] = ""
	required := n.crio.Texts("nri/default_validator/nri_validator_required_plugins")
	if !slices.Contains(required, plugin) {
		required = append(required, plugin)
	}
	validator["nri_validator_required_plugins"] = required
	return wanted
}

// engine is where CRI-O's own engine has the policy.
func (n *node) engine() containerspolicy.Files {
	return containerspolicy.Files{Policy: n.enginePolicy(), RegistriesD: n.registriesD, Lenient: n.Lenient}
}

// toStart says whether CRI-O's settings are others, or were read before they were written.
func (n *ofCrio) toStart(files []file) func() (bool, error) {
	return func() (bool, error) {
		hook, err := n.hookFile()
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(files, file.differs) || len(missing(n.settings(), n.crio.Config)) > 0 {
			return true, nil
		}
		return n.anyChanged(paths(append(hook, files...)), n.crio.Started)
	}
}

// configure has CRI-O's own program read what it is to run by, restarts it, and has it
// say that it does what we ask, and nothing less than before.
func (n *ofCrio) configure(ctx context.Context, files []file) error {
	if err := n.toRestart(n.crio.Unit); err != nil {
		return err
	}
	if err := n.put(files)(); err != nil {
		return err
	}
	if err := n.readsCrio(ctx, n.crio); err != nil {
		return err
	}
	wanted, before := n.settings(), n.crio.Config
	if err := n.restart(ctx); err != nil {
		return err
	}
	now, err := n.surveyCrio(n.Socket)
	if err != nil {
		return err
	}
	if left := missing(wanted, now.Config); len(left) > 0 {
		return fmt.Errorf("CRI-O does not have %s by %s; see which other file, or which option of its unit, sets it", left[0], n.dropIn)
	}
	ours := n.made(now)
	for name, more := range wanted {
		maps.Copy(table(ours, name), more.(map[string]any))
	}
	if gone := lost(before, now.Config, ours); len(gone) > 0 {
		return fmt.Errorf("CRI-O has lost its setting %s by %s", gone[0], n.dropIn)
	}
	n.crio.Started = now.Started
	return nil
}

// made gives what CRI-O itself makes of our settings: of enable_criu_support its table of
// restores, and of pause_image one more image that is not collected as garbage.
func (n *ofCrio) made(now *doctor.Crio) map[string]any {
	found := map[string]any{restores: now.Config[restores]}
	pinned := slices.DeleteFunc(n.crio.Texts(pinnedImages), func(image string) bool { return image == n.crio.At("image/pause_image") })
	if !slices.ContainsFunc(pinned, func(image string) bool { return !slices.Contains(now.Texts(pinnedImages), image) }) {
		found["image"] = map[string]any{"pinned_images": now.At(pinnedImages)}
	}
	return found
}

func (n *ofCrio) restart(ctx context.Context) error {
	if err := n.restartUnit(ctx, n.crio.Unit); err != nil {
		return err
	}
	return n.connected(ctx, n.socket())
}

// crioImages are those of a CRI-O, by CRI alone.
type crioImages struct{ images }

// digest gives what a name leads to in its repository, or "" where the store has it not.
func (i crioImages) digest(ctx context.Context, name string) (string, error) {
	return i.repositoryDigest(ctx, name)
}
