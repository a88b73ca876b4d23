package install

import (
	"path/filepath"

	"countersign/gate/internal/prove"
)

// layout is where everything lies on a node (countersign/enforcement/layout.py has the
// same).
type layout struct {
	bin, verifiers, etc, certs, lib, run, log, units, dropIn, registriesD, crioCerts string
}

var system = layout{
	bin:       "/usr/local/bin",
	verifiers: "/opt/containerd/image-verifier/bin",
	etc:       "/etc/countersign",
	certs:     "/etc/containerd/certs.d",
	lib:       "/var/lib/countersign",
	run:       "/run/countersign",
	log:       "/var/log/countersign",
	units:     "/etc/systemd/system",
	dropIn:    "/etc/containerd/conf.d/90-countersign.toml",

	registriesD: "/etc/containers/registries.d/countersign.yaml",
	crioCerts:   prove.CrioCerts,
}

const (
	unit         = "countersign-gate.service"
	verifierName = "countersign-image-verifier"
	gateName     = "countersign-gate"
	hookName     = "countersign-hook"
)

func (l layout) gate() string     { return filepath.Join(l.bin, gateName) }
func (l layout) hook() string     { return filepath.Join(l.bin, hookName) }
func (l layout) verifier() string { return filepath.Join(l.verifiers, verifierName) }
func (l layout) config() string   { return filepath.Join(l.etc, "gate.json") }
func (l layout) policy() string   { return filepath.Join(l.etc, "policy.json") }
func (l layout) logins() string   { return filepath.Join(l.etc, "docker.json") }
func (l layout) socket() string   { return filepath.Join(l.run, "gate.sock") }
func (l layout) evidence() string { return filepath.Join(l.lib, "evidence") }
func (l layout) journal() string  { return filepath.Join(l.lib, "installed.json") }
func (l layout) receipt() string  { return filepath.Join(l.lib, "receipt.json") }

// Of CRI-O: the doctor looks for these below the folder of gate.json.
func (l layout) enginePolicy() string { return filepath.Join(l.etc, "crio", "policy.json") }
func (l layout) namespaces() string   { return filepath.Join(l.etc, "crio", "namespaces") }
func (l layout) hooks() string        { return filepath.Join(l.etc, "crio", "hooks.d") }
