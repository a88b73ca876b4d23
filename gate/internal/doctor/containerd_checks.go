package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Plugins of containerd, and values of its settings.
const (
	criImages  = "io.containerd.cri.v1.images"
	criRuntime = "io.containerd.cri.v1.runtime"
	verifiers  = "io.containerd.image-verifier.v1.bindir"
	transfer   = "io.containerd.transfer.v1.local"
	nriPlugin  = "io.containerd.nri.v1.nri"

	runc         = "io.containerd.runc.v2" // the only runtime type whose hooks are tried to decide starts
	verifierName = "countersign-image-verifier"
	pluginName   = "countersign"
	fallback     = "Falling back to local image pull mode"
	maxLog       = 64 << 20
	// grace is what a process takes from its start until it reads its files.
	grace = 50 * time.Millisecond
)

// setting is one value of containerd's configuration.
type setting struct {
	name   string   // of the check
	table  []string // below "plugins"
	key    string
	wanted any
	nri    bool // where a plugin can be required
}

// settings are those that have one good value. With any other of the first five the
// CRI plugin pulls by itself, and no verifier is asked.
var settings = []setting{
	{name: "use_local_image_pull", table: []string{criImages}, key: "use_local_image_pull", wanted: false},
	{name: "disable_snapshot_annotations", table: []string{criImages}, key: "disable_snapshot_annotations", wanted: true},
	{name: "discard_unpacked_layers", table: []string{criImages}, key: "discard_unpacked_layers", wanted: false},
	{name: "max_concurrent_downloads", table: []string{criImages}, key: "max_concurrent_downloads", wanted: int64(3)},
	{name: "image_pull_with_sync_fs", table: []string{criImages}, key: "image_pull_with_sync_fs", wanted: false},
	{name: "nri.disable", table: []string{nriPlugin}, key: "disable", wanted: false, nri: true},
	{name: "nri.disable_connections", table: []string{nriPlugin}, key: "disable_connections", wanted: false, nri: true},
	{name: "nri.validator", table: []string{nriPlugin, "default_validator"}, key: "enable", wanted: true, nri: true},
	// With a key here any pod could waive the plugin.
	{name: "nri.tolerate_missing_plugins_annotation", table: []string{nriPlugin, "default_validator"}, key: "tolerate_missing_plugins_annotation", wanted: "", nri: true},
}

func (s setting) where() string { return strings.Join(append(slices.Clone(s.table), s.key), ".") }

func (s setting) look(n *Node) ([]Finding, error) {
	c, err := n.containerdAsked()
	if err != nil {
		return nil, err
	}
	if s.nri {
		if err := n.requiresPlugin(); err != nil {
			return nil, err
		}
	}
	found := c.config.at(append(append([]string{"plugins"}, s.table...), s.key)...)
	if found == s.wanted {
		return nil, nil
	}
	return []Finding{{s.where(), shown(found), shown(s.wanted), n.set(c, s.table, s.key, shown(s.wanted))}}, nil
}

// set says how a setting of containerd is fixed.
func (n *Node) set(c *containerdFacts, table []string, key, value string) string {
	byHand := fmt.Sprintf("set %s = %s in [plugins.'%s'] of %s, then: %s", key, value, strings.Join(table, "'."), c.file, n.restart(c.unit, "containerd"))
	if len(table) > 1 {
		byHand = strings.Replace(byHand, table[len(table)-1]+"']", table[len(table)-1]+"]", 1)
	}
	return n.options.again(byHand)
}

// containerdChecks are those of a node with containerd.
func containerdChecks() []Check {
	found := []Check{
		{Name: "containerd.answers", LooksAt: "containerd at its socket, and its configuration in effect", Wanted: "a containerd that answers", look: containerdAnswers},
		{Name: "containerd.started", LooksAt: "when containerd, its configuration and its base specs were last started or changed", Wanted: "a start by what lies there now", look: ofContainerd(startedByThese)},
		{Name: "containerd.version", LooksAt: "containerd's version", Wanted: known().Oldest + " or newer", look: ofContainerd(newEnough)},
		{Name: "containerd.holes", LooksAt: "containerd's version", Wanted: "one without known holes", look: ofContainerd(withoutHoles), warns: true},
		{Name: "containerd.disabled_plugins", LooksAt: "disabled_plugins", Wanted: "none of those that enforcement needs", look: ofContainerd(pluginsEnabled)},
		{Name: "containerd.registry", LooksAt: criImages + ".registry: mirrors, configs, auths", Wanted: "empty", look: ofContainerd(registryTables)},
		{Name: "containerd.sandbox", LooksAt: criImages + ".pinned_images.sandbox, and the policy's pins", Wanted: "an image by digest, and pinned: no hook sees sandboxes", look: ofContainerd(sandboxPinned)},
		{Name: "containerd.verifier", LooksAt: verifiers + ": bin_dir, its entries, max_verifiers", Wanted: "our verifier among those that are asked", look: ofContainerd(verifierAsked)},
		{Name: "containerd.per_verifier_timeout", LooksAt: verifiers + ".per_verifier_timeout", Wanted: "more than the gate's own timeouts.pull", look: ofContainerd(verifierHasTime)},
		{Name: "containerd.handlers", LooksAt: "each runtime handler: runtime_type, snapshotter, base_runtime_spec and the spec itself", Wanted: "runc's, with our hook in its base spec", look: handlersHooked},
		{Name: "containerd.binaries", LooksAt: "each runtime handler: options.BinaryName, runtime_path", Wanted: "runc or crun, which are known to run hooks", look: handlersKnown, warns: true},
		{Name: "containerd.restore", LooksAt: "enable_criu, enable_checkpoint_restore, criu", Wanted: "no way to restore a checkpoint: it has no verdict", look: ofContainerd(restoresNothing)},
		{Name: "containerd.log", LooksAt: "containerd's log since its start", Wanted: "without “" + fallback + "”", look: pullsVerified},
		{Name: "containerd.nri.required_plugins", LooksAt: nriPlugin + ".default_validator.required_plugins", Wanted: fmt.Sprintf("one with %q", pluginName), look: ofContainerd(pluginRequired)},
	}
	for _, each := range settings {
		found = append(found, Check{Name: "containerd." + each.name, LooksAt: each.where(), Wanted: shown(each.wanted), look: each.look})
	}
	return found
}

func containerdAnswers(n *Node) ([]Finding, error) {
	_, err := n.containerd()
	if err == nil || errors.Is(err, os.ErrPermission) {
		return nil, err
	}
	return []Finding{{"containerd", fmt.Sprintf("without an answer (%v)", err), "a containerd that answers, at containerd.address of " + n.options.Config, "systemctl restart containerd"}}, nil
}

func startedByThese(n *Node, c *containerdFacts) ([]Finding, error) {
	var found []Finding
	read := []string{c.file}
	for _, pattern := range c.config.texts("imports") {
		files, _ := filepath.Glob(pattern) // containerd itself has read the pattern
		read = append(read, files...)
	}
	for _, handler := range c.config.table("plugins", criRuntime, "containerd", "runtimes") {
		if path, _ := tree(asTable(handler)).at("base_runtime_spec").(string); path != "" {
			read = append(read, path)
		}
	}
	slices.Sort(read)
	for _, path := range slices.Compact(read) {
		when, err := changed(path)
		if os.IsNotExist(err) {
			continue // told where it matters
		}
		if err != nil {
			return found, err
		}
		if when.After(c.started.Add(grace)) {
			found = append(found, Finding{"containerd", "started before " + path + " was last changed", "a start by what lies there now", n.restart(c.unit, "containerd")})
		}
	}
	return found, nil
}

func asTable(value any) map[string]any {
	table, _ := value.(map[string]any)
	return table
}

func newEnough(n *Node, c *containerdFacts) ([]Finding, error) {
	if oldest, _ := parseVersion(known().Oldest); !c.version.before(oldest) {
		return nil, nil
	}
	return []Finding{{"containerd", "version " + c.version.String(), known().Oldest + " or newer: before, the name that a hook sees is not what was written", "install a newer containerd there"}}, nil
}

func withoutHoles(n *Node, c *containerdFacts) ([]Finding, error) {
	var found []Finding
	for _, hole := range holes(c.version) {
		found = append(found, Finding{"containerd", "version " + c.version.String() + " with known holes: " + hole, "a version without", "upgrade it, such as by apt-get install --only-upgrade containerd"})
	}
	return found, nil
}

func pluginsEnabled(n *Node, c *containerdFacts) ([]Finding, error) {
	needed := []string{verifiers, transfer}
	if !c.version.before(nriSince) {
		needed = append(needed, nriPlugin)
	}
	var found []Finding
	for _, plugin := range c.config.texts("disabled_plugins") {
		if slices.ContainsFunc(needed, func(name string) bool { return strings.HasPrefix(name, plugin) }) {
			found = append(found, Finding{"disabled_plugins", "with " + plugin, "without it", n.options.again(fmt.Sprintf("take %s out of disabled_plugins in %s, then: %s", plugin, c.file, n.restart(c.unit, "containerd")))})
		}
	}
	return found, nil
}
