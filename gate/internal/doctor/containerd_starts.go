package doctor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

func handlersHooked(n *Node) ([]Finding, error) {
	return n.eachHandler(func(c *containerdFacts, where string, handler tree) ([]Finding, error) {
		mend := n.options.again(fmt.Sprintf("fix it in %s, then: %s", c.file, n.restart(c.unit, "containerd")))
		var found []Finding
		if kind := handler.at("runtime_type"); kind != runc {
			found = append(found, Finding{where + ": runtime_type", shown(kind), shown(runc), mend})
		}
		if snapshotter, _ := handler.at("snapshotter").(string); snapshotter != "" {
			found = append(found, Finding{where + ": snapshotter", shown(snapshotter), "the default one", mend})
		}
		path, _ := handler.at("base_runtime_spec").(string)
		if path == "" {
			return append(found, Finding{where + ": base_runtime_spec", "empty", "a spec with our hook", mend}), nil
		}
		hooked, err := n.hasHook(path)
		if err != nil && !os.IsNotExist(err) {
			return found, err
		}
		if !hooked {
			found = append(found, Finding{where + ": " + path, "without our createRuntime hook", "the hook as set-up wrote it", mend})
		}
		return append(found, n.writable(path)...), nil
	})
}

func handlersKnown(n *Node) ([]Finding, error) {
	return n.eachHandler(func(_ *containerdFacts, where string, handler tree) ([]Finding, error) {
		var found []Finding
		mend := "see whether it runs createRuntime hooks: countersign-gate explain a container of this handler"
		if binary, _ := handler.at("options", "BinaryName").(string); binary != "" && !slices.Contains([]string{"runc", "crun"}, filepath.Base(binary)) {
			found = append(found, Finding{where + ": options.BinaryName", shown(binary), "runc or crun", mend})
		}
		if shim, _ := handler.at("runtime_path").(string); shim != "" {
			found = append(found, Finding{where + ": runtime_path", shown(shim), "empty: the shim that came with containerd", mend})
		}
		return found, nil
	})
}

// eachHandler looks at every runtime handler, in order; there has to be one.
func (n *Node) eachHandler(look func(c *containerdFacts, where string, handler tree) ([]Finding, error)) ([]Finding, error) {
	c, err := n.containerdAsked()
	if err != nil {
		return nil, err
	}
	handlers := c.config.table("plugins", criRuntime, "containerd", "runtimes")
	if len(handlers) == 0 {
		return nil, errors.New("containerd's configuration names no runtime handler")
	}
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		some, err := look(c, "handler "+name, asTable(handlers[name]))
		found = append(found, some...)
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

func restoresNothing(n *Node, c *containerdFacts) ([]Finding, error) {
	const wanted = "false: a restored checkpoint has no verdict"
	var found []Finding
	runtime := c.config.table("plugins", criRuntime)
	renamed := runtime.at("enable_checkpoint_restore")
	if on := runtime.at("enable_criu"); !c.version.before(criuSwitch) && (on == true || on == nil && renamed == nil) {
		found = append(found, Finding{criRuntime + ".enable_criu", "true", wanted, n.set(c, []string{criRuntime}, "enable_criu", "false")})
	}
	if renamed != nil && renamed != false {
		found = append(found, Finding{criRuntime + ".enable_checkpoint_restore", shown(renamed), wanted, n.set(c, []string{criRuntime}, "enable_checkpoint_restore", "false")})
	}
	if criu := n.criu(c); c.version.before(criuSwitch) && criu != "" {
		found = append(found, Finding{"criu", "installed beside containerd version " + c.version.String() + " (" + criu + ")", "absent: a restored checkpoint has no verdict", "remove criu from this node, or install containerd 2.4"})
	}
	return found, nil
}

// criu gives the program where containerd or we would find it, or "".
func (n *Node) criu(c *containerdFacts) string {
	for _, folder := range filepath.SplitList(environment(c.pid, "PATH")) {
		path := filepath.Join(folder, "criu")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	path, _ := exec.LookPath("criu") // "" where there is none
	return path
}

func pluginRequired(n *Node, c *containerdFacts) ([]Finding, error) {
	if err := n.requiresPlugin(); err != nil {
		return nil, err
	}
	table := []string{nriPlugin, "default_validator"}
	required := c.config.texts("plugins", nriPlugin, "default_validator", "required_plugins")
	if slices.Contains(required, pluginName) {
		return nil, nil
	}
	return []Finding{{nriPlugin + ".default_validator.required_plugins", shown(required), fmt.Sprintf("one with %q", pluginName), n.set(c, table, "required_plugins", shown(append(required, pluginName)))}}, nil
}
