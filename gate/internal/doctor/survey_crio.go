package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	crioConfigFile = "/etc/crio/crio.conf"
	crioDropIns    = "/etc/crio/crio.conf.d"
)

// crioSince is the first CRI-O whose NRI can require a plugin.
var crioSince = version{1, 34, 0}

// Crio is what a running CRI-O says of itself, for whoever brings it under enforcement.
type Crio struct {
	Version string
	Unit    string         // systemd's, or ""
	Config  map[string]any // in effect, defaults included: the table crio
	DropIns string         // the folder of files beside its configuration
	Home    string         // of its user: containers' own configuration there comes first
	Refused string         // why nothing can be enforced on it, or ""
	Started time.Time

	program string
	file    string
}

// SurveyCrio asks the CRI-O that listens at a socket.
func SurveyCrio(socket string) (*Crio, error) {
	node := &Node{options: Options{CrioSocket: socket}, program: program}
	facts, err := node.inspectCrio()
	if err != nil {
		return nil, err
	}
	pid, err := listenerOf(socket)
	if err != nil {
		return nil, err
	}
	argv, err := arguments(pid)
	if err != nil {
		return nil, err
	}
	c := &Crio{Version: facts.version, Unit: facts.unit, Config: facts.config, program: program(pid), Home: environment(pid, "HOME")}
	if c.Started, err = started(pid); err != nil {
		return nil, err
	}
	c.file, c.DropIns = crioFiles(pid, argv)
	if c.Home == "" {
		c.Home = "/root"
	}
	c.Refused = crioRefused(c, inThisRoot(pid))
	return c, nil
}

// crioFiles gives the configuration of a CRI-O, as its command line or its environment
// names it (crio(8)).
func crioFiles(pid int, argv []string) (file, dropIns string) {
	file, dropIns = crioConfigFile, crioDropIns
	for _, each := range []struct {
		into      *string
		variable  string
		long, one string
	}{{&file, "CONTAINER_CONFIG", "config", "c"}, {&dropIns, "CONTAINER_CONFIG_DIR", "config-dir", "d"}} {
		if value := environment(pid, each.variable); value != "" {
			*each.into = absolute(pid, value)
		}
		if value, named := optionIn(argv, each.long, each.one); named && value == "" {
			*each.into = ""
		} else if named {
			*each.into = absolute(pid, value)
		}
	}
	return file, dropIns
}

// optionIn gives what an option of a command line names, in whichever of its forms.
func optionIn(argv []string, names ...string) (value string, named bool) {
	for i, word := range argv {
		name, text, joined := strings.Cut(word, "=")
		bare := strings.TrimLeft(name, "-")
		if bare == name || !slices.Contains(names, bare) {
			continue
		}
		if !joined && i+1 < len(argv) {
			text = argv[i+1]
		}
		value, named = text, true
	}
	return value, named
}

// crioRefused says why nothing can be enforced on a CRI-O.
func crioRefused(c *Crio, here bool) string {
	v, known := parseVersion(c.Version)
	switch {
	case !known:
		return fmt.Sprintf("CRI-O says that its version is %q", c.Version)
	case v.before(crioSince):
		return fmt.Sprintf("CRI-O is version %s, expected %d.%d or newer: before, nothing can demand that the gate is there", c.Version, crioSince[0], crioSince[1])
	case c.DropIns == "":
		return "CRI-O reads no folder of files beside its configuration (--config-dir \"\")"
	case !here:
		return "CRI-O runs in a container, by files that are not this node's"
	}
	for name, handler := range tree(c.Config).table("runtime", "runtimes") {
		if kind := tree(asTable(handler)).at("runtime_type"); kind == "vm" {
			return fmt.Sprintf("the runtime handler %s of CRI-O is of the type \"vm\", which runs no hooks", name)
		}
	}
	folder, _ := tree(c.Config).at("image", "signature_policy_dir").(string)
	if files, err := filepath.Glob(filepath.Join(folder, "*.json")); folder != "" && err == nil && len(files) > 0 {
		return fmt.Sprintf("%s is a policy for one namespace, which would not count any more: put what it says into the policy, and take it away", files[0])
	}
	return ""
}

// inThisRoot says whether a process has the root that this one has.
func inThisRoot(pid int) bool {
	own, err := os.Stat("/")
	if err != nil {
		return false
	}
	its, err := os.Stat(fmt.Sprintf("/proc/%d/root/", pid))
	return err == nil && os.SameFile(own, its)
}

// At gives what lies at a path of its configuration, or nil; the path's elements are
// parted by "/".
func (c *Crio) At(path string) any { return tree(c.Config).at(strings.Split(path, "/")...) }

// Texts gives the texts of the list at a path.
func (c *Crio) Texts(path string) []string { return tree(c.Config).texts(strings.Split(path, "/")...) }

// RestoresNone gives the settings by which no checkpoint can be restored, by their paths.
func (c *Crio) RestoresNone() map[string]any {
	found := map[string]any{}
	table := tree(c.Config).table("checkpoint_restore")
	old := c.At("runtime/enable_criu_support")
	if old != nil || table == nil {
		found["runtime/enable_criu_support"] = false // newer ones take it for the table's
		return found
	}
	for key, value := range table {
		if !strings.HasSuffix(key, "_enabled") {
			continue
		}
		if !slices.Contains(restoresNone, value) {
			value = map[bool]any{true: false, false: "none"}[value == true]
		}
		found["checkpoint_restore/"+key] = value // what is so by our own file has to stay there
	}
	return found
}

// Read has this CRI-O's program read the configuration as it lies there now.
func (c *Crio) Read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	words := []string{"--config-dir", c.DropIns, "config"}
	if exists(c.file) { // one that is named has to be there
		words = append([]string{"--config", c.file}, words...)
	}
	command := exec.CommandContext(ctx, c.program, words...)
	var told strings.Builder
	command.Stderr = &limited{to: &told, left: maxTold, drops: true}
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		return fmt.Errorf("CRI-O does not read its configuration with our settings: %w: %s", err, lastLine(told.String()))
	}
	return nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
