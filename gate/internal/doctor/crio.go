package doctor

import (
	"context"
	"fmt"

	"github.com/pelletier/go-toml/v2"

	"countersign/gate/internal/crio"
	"countersign/gate/internal/nri"
)

// crioFacts is what a running CRI-O says of itself.
type crioFacts struct {
	version string
	unit    string // systemd's, or ""
	nri     string // the version that it was built with, or ""
	config  tree   // in effect
}

// inspectCrio asks a running CRI-O for the configuration that it runs by, as "crio status
// config" does.
func (n *Node) inspectCrio() (*crioFacts, error) {
	socket := n.options.CrioSocket
	pid, err := listenerOf(socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := &crioFacts{unit: unitOf(pid)}
	if c.version, err = runtimeVersion(ctx, socket); err != nil {
		return nil, err
	}
	c.nri, _ = nri.VersionIn(n.program(pid)) // told where it can be
	c.config, err = crioConfig(ctx, socket)
	return c, err
}

func crioConfig(ctx context.Context, socket string) (tree, error) {
	content, err := crio.Configuration(ctx, socket)
	var found tree
	if err == nil {
		err = toml.Unmarshal(content, &found)
	}
	if err == nil && len(found.table("crio", "runtime")) == 0 {
		err = fmt.Errorf("no table crio.runtime")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: its configuration: %w", socket, err)
	}
	return found.table("crio"), nil
}

// crioAsked is what CRI-O says, for checks that come after the one that it answers.
func (n *Node) crioAsked() (*crioFacts, error) {
	c, err := n.crio()
	if err != nil {
		return nil, after("crio.answers")
	}
	return c, nil
}

// ofCrio makes a look of one at what CRI-O says.
func ofCrio(look func(*Node, *crioFacts) ([]Finding, error)) func(*Node) ([]Finding, error) {
	return func(n *Node) ([]Finding, error) {
		c, err := n.crioAsked()
		if err != nil {
			return nil, err
		}
		return look(n, c)
	}
}
