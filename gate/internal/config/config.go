// Package config reads gate.json.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/containerspolicy"
	"countersign/gate/internal/policy"
)

// DefaultPath is where gate.json lies on a node.
const DefaultPath = "/etc/countersign/gate.json"

// Env names another place, for the image verifier: containerd starts it with no
// arguments of ours.
const Env = "COUNTERSIGN_CONFIG"

// Config is gate.json. Unknown fields are refused.
type Config struct {
	Policy      string      `json:"policy"`     // the rendered policy
	PolicyKeys  []string    `json:"policyKeys"` // PEM: one of them must have signed the policy; none: no signature is asked for
	Pinned      []string    `json:"pinned"`     // repository@digest of what this node itself needs, such as its sandbox image: allowed beside the policy's own pins
	State       string      `json:"state"`      // what has to outlive a restart; "" for the folder in which evidence.dir lies
	Socket      string      `json:"socket"`     // of the gate
	Log         string      `json:"log"`        // verdicts, one JSON line each; "-" for stdout
	LogRotation LogRotation `json:"logRotation"`
	Metrics     string      `json:"metrics"` // "unix:PATH", a loopback "ADDRESS:PORT", or "" for none
	Evidence    Evidence    `json:"evidence"`
	Containerd  Containerd  `json:"containerd"`
	Crio        *Crio       `json:"crio"` // instead of containerd; nil where containerd is the runtime
	Registry    Registry    `json:"registry"`
	Timeouts    Timeouts    `json:"timeouts"`
	Audit       Audit       `json:"audit"`

	keys []policy.Key
}

// PolicyFile gives the policy and what has to hold of it on this node.
func (c *Config) PolicyFile() policy.File {
	state := c.State
	if state == "" {
		state = filepath.Dir(c.Evidence.Dir)
	}
	file := policy.File{Path: c.Policy, Keys: c.keys, Mark: filepath.Join(state, "policy-mark.json"), Pins: c.Pinned}
	if c.Crio != nil && c.Crio.Engine != nil {
		file.Engine = c.Crio.Engine.Files()
	}
	return file
}

// Files gives the files of CRI-O's own engine.
func (e *CrioEngine) Files() containerspolicy.Files {
	return containerspolicy.Files{Policy: e.Policy, RegistriesD: e.RegistriesD, Lenient: e.Lenient}
}

// Audit says how often the daemon judges what runs already.
type Audit struct {
	Every Duration `json:"every"` // 0: never
}

// LogRotation bounds the verdict log: the file and as many older ones.
type LogRotation struct {
	MaxBytes int64 `json:"maxBytes"` // of each
	Keep     int   `json:"keep"`     // how many older ones
}

// Evidence says where signatures are kept on the node.
type Evidence struct {
	Dir        string `json:"dir"`
	MaxBytes   int64  `json:"maxBytes"`
	MaxEntries int    `json:"maxEntries"`
}

// Containerd says how the runtime is asked, and how the gate watches over its own
// hook.
type Containerd struct {
	Address      string   `json:"address"`      // of its gRPC socket
	Namespace    string   `json:"namespace"`    // CRI's: k8s.io
	Snapshotters []string `json:"snapshotters"` // whose layers containerd unpacks itself
	NRI          string   `json:"nri"`          // NRI's socket; "" for no plugin
	Hook         string   `json:"hook"`         // the hook's program, as the base specs name it
}

// Crio says where CRI-O keeps its storage, and how the gate watches over its own
// hook.
type Crio struct {
	Root    string `json:"root"`    // containers/storage's root
	RunRoot string `json:"runRoot"` // and its run root
	Socket  string `json:"socket"`  // CRI-O's own, for what runs and what is cached
	NRI     string `json:"nri"`     // NRI's socket; "" for no plugin
	Hook    string `json:"hook"`    // the hook's program, as hooks.d names it
	// Engine is where CRI-O's own engine has each policy, which is written with the
	// gate's; nil where others see to that.
	Engine *CrioEngine `json:"engine,omitempty"`
}

// CrioEngine says what CRI-O's own engine reads.
type CrioEngine struct {
	Policy      string `json:"policy"`      // signature_policy of crio.conf(5)
	RegistriesD string `json:"registriesD"` // our file in registries.d
	Lenient     bool   `json:"lenient"`     // it lets pass what the gate verifies at start
}

// Registry says how registries are reached.
type Registry struct {
	CertsDir     string `json:"certsDir"`     // certs.d with hosts.toml files
	DockerConfig string `json:"dockerConfig"` // credentials, readable by root only
	// CredentialProviders are the kubelet's, for what dockerConfig has no login for;
	// nil for none.
	CredentialProviders *CredentialProviders `json:"credentialProviders"`
}

// CredentialProviders says where the kubelet keeps its credential providers.
type CredentialProviders struct {
	Config string `json:"config"` // the kubelet's --image-credential-provider-config
	BinDir string `json:"binDir"` // the kubelet's --image-credential-provider-bin-dir
}

// Timeouts nest: runtime and registry < verdict < hook client (5 s) < the
// hook's spec (10 s); pull < containerd's per_verifier_timeout.
type Timeouts struct {
	Runtime  Duration `json:"runtime"`  // one binding
	Registry Duration `json:"registry"` // one look-up
	Verdict  Duration `json:"verdict"`  // create, and what a person asks
	Pull     Duration `json:"pull"`
}

// Duration is written as in "4.5s".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return errors.New(`a duration is written as in "4.5s"`)
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

const maxSize = 1 << 20

// defaults holds what gate.json may leave out.
func defaults() *Config {
	return &Config{
		Policy:      "/etc/countersign/policy.json",
		Socket:      "/run/countersign/gate.sock",
		Log:         "-",
		LogRotation: LogRotation{MaxBytes: 8 << 20, Keep: 4},
		Evidence:    Evidence{Dir: "/var/lib/countersign/evidence"},
		Containerd:  Containerd{Address: "/run/containerd/containerd.sock", Namespace: "k8s.io", Snapshotters: []string{"overlayfs", "native"}, Hook: "/usr/local/bin/countersign-hook"},
		Registry:    Registry{CertsDir: "/etc/containerd/certs.d"},
		Timeouts: Timeouts{
			Runtime:  Duration(2 * time.Second),
			Registry: Duration(3 * time.Second),
			Verdict:  Duration(4500 * time.Millisecond),
			Pull:     Duration(20 * time.Second),
		},
	}
}

// CrioSocket is where CRI-O serves, unless it is told otherwise.
const CrioSocket = "/var/run/crio/crio.sock"

// crioDefaults holds what the block "crio" may leave out.
func crioDefaults() *Crio {
	return &Crio{Root: "/var/lib/containers/storage", RunRoot: "/run/containers/storage", Socket: CrioSocket, NRI: "/var/run/nri/nri.sock", Hook: "/usr/local/bin/countersign-hook"}
}

// Load reads and checks a configuration file.
func Load(path string) (*Config, error) {
	content, err := bounded.File(path, maxSize)
	if err != nil {
		return nil, err
	}
	c, err := Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks a configuration.
func Parse(content []byte) (*Config, error) {
	c := defaults()
	var runtimes struct{ Containerd, Crio json.RawMessage }
	if err := json.Unmarshal(content, &runtimes); err == nil && bounded.Present(runtimes.Crio) { // what is not JSON is told below
		if runtimes.Containerd != nil {
			return nil, errors.New("containerd and crio: a node has one of them")
		}
		c.Crio = crioDefaults()
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); errors.Is(err, io.EOF) {
		return nil, errors.New("an empty file; expected gate.json as set-up writes it")
	} else if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON document")
	}
	return c, c.check()
}
