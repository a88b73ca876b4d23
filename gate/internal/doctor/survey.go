package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Containerd is what a running containerd says of itself, for whoever brings it under
// enforcement.
type Containerd struct {
	Version  string
	Unit     string         // systemd's, or ""
	File     string         // its configuration
	Config   map[string]any // in effect by what lies there now, imports and defaults included
	Requires bool           // its NRI can require a plugin
	Criu     bool           // checkpoints are a setting of its own
	Refused  string         // why nothing can be enforced on it, or ""
	Holes    []string       // known ones
	Started  time.Time

	program string
}

// SurveyContainerd asks the containerd that listens at a socket.
func SurveyContainerd(address string) (*Containerd, error) {
	facts, err := inspectContainerd(address, program)
	if err != nil {
		return nil, err
	}
	c := &Containerd{
		Version: facts.version.String(), Unit: facts.unit, File: facts.file, Config: facts.config,
		Requires: !facts.version.before(nriSince), Criu: !facts.version.before(criuSwitch), Holes: holes(facts.version),
		Started: facts.started, program: program(facts.pid),
	}
	if oldest, _ := parseVersion(known().Oldest); facts.version.before(oldest) {
		c.Refused = fmt.Sprintf("containerd is version %s, expected %s or newer: before, the name that a hook sees is not what was written", c.Version, known().Oldest)
	}
	return c, nil
}

// ToldContainerd is one that somebody else asked: its version, and its configuration in
// effect.
func ToldContainerd(told string, config map[string]any) (*Containerd, error) {
	v, ok := parseVersion(told)
	if !ok {
		return nil, fmt.Errorf("%q is not a version of containerd", told)
	}
	return &Containerd{Version: v.String(), Config: config, Requires: !v.before(nriSince), Criu: !v.before(criuSwitch)}, nil
}

// Dump has this containerd say what would be in effect by another configuration file.
func (c *Containerd) Dump(ctx context.Context, file string) (map[string]any, error) {
	return dump(ctx, c.program, file)
}

// Started gives the moment at which a process began.
func Started(pid int) (time.Time, error) { return started(pid) }

// ChangedSince says whether a file was changed, or moved to its place, after a process
// that reads it had started.
func ChangedSince(path string, started time.Time) (bool, error) {
	when, err := changed(path)
	return err == nil && when.After(started.Add(grace)), err
}

// Settings are those that have one good value on this containerd, as tables below
// "plugins".
func (c *Containerd) Settings() map[string]any {
	found := map[string]any{}
	for _, s := range settings {
		if s.nri && !c.Requires {
			continue
		}
		table := found
		for _, key := range s.table {
			inner, _ := table[key].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
				table[key] = inner
			}
			table = inner
		}
		table[s.key] = s.wanted
	}
	return found
}

// At gives what lies at a path of its configuration below "plugins", or nil; the path's
// elements are parted by "/".
func (c *Containerd) At(path string) any {
	return tree(c.Config).at(append([]string{"plugins"}, strings.Split(path, "/")...)...)
}
