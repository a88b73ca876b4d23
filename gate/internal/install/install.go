// Package install puts the node that it runs on under enforcement, and takes it off
// again: for a package, a node's image or a DaemonSet, where nobody brings files over a
// connection. Its phases are look, plan, apply, prove. It asks all that can be asked
// before anything changes, remembers how the node was, and takes back what it did when
// the node is not proven to enforce.
package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"time"

	"countersign/gate/internal/config"
	"countersign/gate/internal/doctor"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/prove"
	"countersign/gate/internal/wire"
)

// ResultVersion is that of what Run gives, as JSON.
const ResultVersion = "countersign.installed-node/v1"

// Options say what to install.
type Options struct {
	Socket       string   // the runtime's
	Crio         bool     // that is CRI-O, not containerd
	Lenient      bool     // CRI-O's own engine lets pass what the gate verifies at start
	Programs     string   // the folder with countersign-gate and countersign-hook
	Policy       []byte   // rendered
	Signatures   []byte   // of the policy; none where no key asks for them
	PolicyKeys   []string // PEM: one of them must have signed every policy of this node
	DockerConfig []byte   // logins for registries; empty keeps those that are there
	Providers    *config.CredentialProviders
	Image        string // that the proof has to find allowed; "" for one that is there
	Version      string // of the gate
	Plan         bool   // change nothing

	Say func(line string) // what was done, a line each
}

// Result says what was done, or would be.
type Result struct {
	Version string         `json:"version"`
	Node    string         `json:"node"`
	Runtime string         `json:"runtime"`
	Steps   []Step         `json:"steps"`
	Changed int            `json:"changed"`
	Sandbox string         `json:"sandbox"` // by digest
	Receipt *prove.Receipt `json:"receipt,omitempty"`
}

// Step is one thing that had to hold.
type Step struct {
	Name    string `json:"step"`
	Changed bool   `json:"changed"` // with Plan: would be
}

const (
	pause     = 100 * time.Millisecond
	comesBack = 90 * time.Second // containerd, after a restart
	connects  = 30 * time.Second // the gate's plugin
)

// runtime is the node's, on its way under enforcement.
type runtime interface {
	// look asks it all that can be asked, and says what is in the way.
	look(ctx context.Context) error
	// block is its part of gate.json.
	block() (name string, settings any)
	// folders are those that it needs beside the gate's own.
	folders() []file
	// writes are more folders in which a file may have to change.
	writes() []file
	// before are the steps that come before the gate starts, after those that come then.
	before(ctx context.Context) ([]step, error)
	after(ctx context.Context) ([]step, error)
	// restart returns once it answers and asks the gate. Containers go on running.
	restart(ctx context.Context) error
}

// spec is a base spec of ours.
type spec struct {
	path    string
	content []byte
}

// host is what a node does; tests have another.
type host struct {
	survey    func(socket string) (*doctor.Containerd, error)
	dump      func(ctx context.Context, c *doctor.Containerd, file string) (map[string]any, error)
	systemctl func(ctx context.Context, arguments ...string) (string, error)
	ociSpec   func(ctx context.Context) ([]byte, error)
	connected func(ctx context.Context, socket string) error
	examine   func(configPath string) *doctor.Report
	prove     func(ctx context.Context, c prove.Config) (*prove.Receipt, error)
	started   func(pid int) (time.Time, error)
	capable   func() bool // has CAP_SYS_RESOURCE
	store     store

	surveyCrio func(socket string) (*doctor.Crio, error)
	readsCrio  func(ctx context.Context, c *doctor.Crio) error
}

// store are the images of the runtime.
type store interface {
	digest(ctx context.Context, name string) (string, error)
	name(ctx context.Context, from, to string) error
	forget(ctx context.Context, name string) error
	pull(ctx context.Context, name string) error
	ready(ctx context.Context) error
}

// node is one run.
type node struct {
	Options
	layout
	host
	journal *journal
	first   bool // nothing of ours was there that was ever proven
	runtime runtime

	found         *doctor.Containerd
	template      string // of its configuration, where that is generated and imports nothing
	keys          []policy.Key
	sandbox       string // by digest
	sandboxNamed  string // as the store has it
	specs         map[string]spec
	platform      string
	lacksResource bool

	result  Result
	touched []was // in this run, in order
}

// Run brings this node under enforcement. The error says what is in the way; nothing is
// changed then, or all was taken back.
func Run(ctx context.Context, o Options) (*Result, error) {
	return run(ctx, o, system, host{
		survey: doctor.SurveyContainerd, systemctl: systemctl, ociSpec: ociSpec, connected: connected, started: doctor.Started, capable: hasSysResource,
		dump: func(ctx context.Context, c *doctor.Containerd, file string) (map[string]any, error) {
			return c.Dump(ctx, file)
		},
		examine: func(path string) *doctor.Report {
			return doctor.Look(doctor.Options{Config: path, Setup: "countersign-gate install"})
		},
		prove: prove.Run, store: imagesOf(o),
		surveyCrio: doctor.SurveyCrio, readsCrio: func(ctx context.Context, c *doctor.Crio) error { return c.Read(ctx) },
	})
}

func imagesOf(o Options) store {
	if o.Crio {
		return crioImages{images{o.Socket}}
	}
	return images{o.Socket}
}

func run(ctx context.Context, o Options, l layout, h host) (*Result, error) {
	n := &node{Options: o, layout: l, host: h, platform: "linux/" + goruntime.GOARCH}
	n.result = Result{Version: ResultVersion, Steps: []Step{}}
	n.runtime = ofContainerd{n}
	if o.Crio {
		n.runtime = &ofCrio{node: n}
	}
	if n.Say == nil {
		n.Say = func(string) {}
	}
	if err := n.look(ctx); err != nil {
		if n.journal != nil && n.journal.Unproven {
			err = fmt.Errorf("%w; an install was cut off here before: make it again, or take it back by countersign-gate uninstall", err)
		}
		return nil, err
	}
	if n.Plan {
		return &n.result, n.apply(ctx)
	}
	n.journal.Unproven = n.first
	err := n.apply(ctx)
	if err == nil {
		err = n.proven(ctx)
	}
	if err == nil {
		err = n.journal.proven()
	}
	if err != nil {
		if back := n.takeBack(context.WithoutCancel(ctx)); back != nil {
			return nil, fmt.Errorf("%w; and what was done could not be taken back (%w): run countersign-gate uninstall", err, back)
		}
		return nil, fmt.Errorf("%w; the node is as it was before", err)
	}
	return &n.result, nil
}

// look asks all that can be asked; it changes nothing.
func (n *node) look(ctx context.Context) (err error) {
	if n.result.Node, err = os.Hostname(); err != nil {
		return err
	}
	if n.journal, err = openJournal(n.layout.journal()); err != nil {
		return err
	}
	n.first = n.journal.empty() || n.journal.Unproven
	if _, err := os.Lstat(n.config()); err == nil && n.journal.empty() {
		return fmt.Errorf("%s is there, and install did not put it there: this node was set up from another machine; run its clean task first (./inv containerd.clean)", n.config())
	}
	for _, name := range []string{gateName, hookName} {
		if info, err := os.Stat(filepath.Join(n.Programs, name)); err != nil {
			return err
		} else if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a program", filepath.Join(n.Programs, name))
		}
	}
	if len(n.PolicyKeys) > 0 {
		if n.keys, err = policy.ParseKeys("policy keys", n.PolicyKeys); err != nil {
			return err
		}
	}
	if err := n.runtime.look(ctx); err != nil {
		return err
	}
	n.lacksResource = !n.capable()
	n.result.Sandbox = n.sandbox
	_, err = n.policyFile().Install("the policy", n.Policy, n.Signatures, false, true)
	return err
}

// installedFor says where an earlier install was for another runtime than this one.
func (n *node) installedFor(unit string) error {
	if was := n.journal.Runtime; was != "" && was != unit {
		return fmt.Errorf("this node was brought under enforcement with %s, and now it is %s: run countersign-gate uninstall first", was, unit)
	}
	return nil
}

func (n *node) policyFile() policy.File {
	file := policy.File{Path: n.layout.policy(), Mark: filepath.Join(n.lib, "policy-mark.json"), Pins: []string{n.sandbox}, Keys: n.keys}
	if n.Crio {
		file.Engine = n.engine()
	}
	return file
}

// connected waits until the runtime asks the gate as its plugin. The gate knows a moment
// before the runtime that it is registered, so it has to say so twice.
func connected(ctx context.Context, socket string) error {
	said := 0
	for deadline := time.Now().Add(connects); time.Now().Before(deadline); time.Sleep(pause) {
		v, err := wire.Call(ctx, socket, wire.Ping, nil)
		switch {
		case err != nil || v.NRI != "connected" && v.NRI != "off":
			said = 0
		case v.NRI == "off" || said > 0:
			return nil
		default:
			said++
		}
	}
	return fmt.Errorf("the gate is not the runtime's NRI plugin after %s", connects)
}

// proven has the doctor look and the canary tried, and keeps the receipt.
func (n *node) proven(ctx context.Context) error {
	report := n.examine(n.config())
	for _, check := range report.Checks {
		if check.State == doctor.Open || check.State == doctor.Unknown {
			if len(check.Findings) > 0 {
				return fmt.Errorf("not enforcing: %s", check.Findings[0])
			}
			return fmt.Errorf("not known to enforce: %s: %s", check.Name, check.Note)
		}
	}
	settings, err := config.Load(n.config())
	if err != nil {
		return err
	}
	receipt, err := n.prove(ctx, prove.Config{Gate: settings, Version: n.Version, Image: n.Image, Certs: n.crioCerts})
	if err != nil {
		return fmt.Errorf("the proof could not be had: %w", err)
	}
	if !receipt.Holds() {
		return fmt.Errorf("not proven: %s: %s; expected %s", receipt.Problems[0].Where, receipt.Problems[0].Found, receipt.Problems[0].Expected)
	}
	n.result.Receipt = receipt
	return keepReceipt(receipt, n.layout.receipt(), filepath.Join(n.etc, "node.key"))
}

// keepReceipt writes a receipt, signed where the node has a key.
func keepReceipt(receipt *prove.Receipt, path, key string) error {
	content, err := receipt.Sign(key)
	if errors.Is(err, fs.ErrNotExist) {
		content, err = receipt.Plain()
	}
	if err != nil {
		return err
	}
	return prove.Write(path, append(content, '\n'))
}
