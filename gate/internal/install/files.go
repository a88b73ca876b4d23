package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"countersign/gate/internal/config"
	"countersign/gate/internal/doctor"
)

// Versions of what Files reads and gives, as JSON.
const (
	PlaceVersion = "countersign.place/v1"
	FilesVersion = "countersign.node-files/v1"
)

// Place is a node that gets its files over a connection.
type Place struct {
	Version             string                      `json:"version"`
	Layout              Layout                      `json:"layout"`
	Containerd          *Containerd                 `json:"containerd"` // the node has this
	Crio                *Crio                       `json:"crio"`       // or this
	BaseSpecs           map[string]string           `json:"baseSpecs"`  // path of ours -> the OCI spec that it is made of
	PolicyKeys          []string                    `json:"policyKeys"` // see Options
	CredentialProviders *config.CredentialProviders `json:"credentialProviders"`
}

// Layout is where everything lies there.
type Layout struct {
	Bin       string `json:"bin"`
	Verifiers string `json:"verifiers"`
	Etc       string `json:"etc"`
	Certs     string `json:"certs"`
	Lib       string `json:"lib"`
	Run       string `json:"run"`
	Log       string `json:"log"`
}

// Containerd is that of a Place.
type Containerd struct {
	Address string `json:"address"` // of its gRPC socket
	NRI     string `json:"nri"`     // NRI's socket; "" for no plugin
	Told    *Told  `json:"told"`    // what its settings depend on; nil for none
}

// Crio is that of a Place.
type Crio struct {
	config.Crio
	Told *ToldCrio `json:"told"` // what its settings depend on; nil for none
}

// ToldCrio is what its node says of a CRI-O.
type ToldCrio struct {
	Config  map[string]any `json:"config"`  // in effect: the table crio
	Sandbox string         `json:"sandbox"` // its image by digest
	DropIn  string         `json:"dropIn"`  // path of our file of crio.conf.d
}

// Told is what its node says of a containerd.
type Told struct {
	Version       string            `json:"version"`
	Config        map[string]any    `json:"config"`        // in effect
	Sandbox       string            `json:"sandbox"`       // its image by digest
	Handlers      map[string]string `json:"handlers"`      // runtime handler -> path of our base spec
	Platform      string            `json:"platform"`      // such as linux/amd64
	LacksResource bool              `json:"lacksResource"` // CAP_SYS_RESOURCE
}

// Written is what the files of a Place contain.
type Written struct {
	Version string            `json:"version"`
	Files   map[string]string `json:"files"`   // path -> content
	Plugins map[string]any    `json:"plugins"` // what containerd's configuration has to say below "plugins"
	Crio    map[string]string `json:"crio"`    // what CRI-O itself reads: path -> content
}

// Files reads a Place, and gives what its files contain; it looks at no node.
func Files(place []byte) (*Written, error) {
	var p Place
	decoder := json.NewDecoder(bytes.NewReader(place))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return nil, fmt.Errorf("stdin is not a node's description (%s): %w", PlaceVersion, err)
	}
	if p.Version != PlaceVersion {
		return nil, fmt.Errorf("version %q, expected %q", p.Version, PlaceVersion)
	}
	l := layout{bin: p.Layout.Bin, verifiers: p.Layout.Verifiers, etc: p.Layout.Etc, certs: p.Layout.Certs, lib: p.Layout.Lib, run: p.Layout.Run, log: p.Layout.Log}
	runtime := map[string]any{}
	switch {
	case p.Containerd != nil && p.Crio == nil:
		runtime["containerd"] = l.ofContainerd(p.Containerd.Address, p.Containerd.NRI)
	case p.Crio != nil && p.Containerd == nil:
		p.Crio.Hook = l.hook()
		runtime["crio"] = p.Crio.Crio
	default:
		return nil, errors.New("a place has containerd or crio")
	}
	gate, err := l.gateJSON(p.PolicyKeys, p.CredentialProviders, runtime)
	if err != nil {
		return nil, err
	}
	found := &Written{FilesVersion, map[string]string{l.config(): string(gate)}, nil, nil}
	if p.Containerd != nil && p.Containerd.Told != nil {
		if found.Plugins, err = p.Containerd.plugins(l); err != nil {
			return nil, err
		}
	}
	if p.Crio != nil {
		if found.Crio, err = p.Crio.files(l); err != nil {
			return nil, err
		}
	}
	for path, spec := range p.BaseSpecs {
		content, err := l.withHook([]byte(spec))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		found.Files[path] = string(content)
	}
	return found, nil
}

func (c *Containerd) plugins(l layout) (map[string]any, error) {
	found, err := doctor.ToldContainerd(c.Told.Version, c.Told.Config)
	if err != nil {
		return nil, err
	}
	found.Requires = found.Requires && c.NRI != ""
	n := &node{layout: l, found: found, sandbox: c.Told.Sandbox, platform: c.Told.Platform, lacksResource: c.Told.LacksResource, specs: map[string]spec{}}
	for handler, path := range c.Told.Handlers {
		n.specs[handler] = spec{path: path}
	}
	return n.settings(), nil
}

// files gives the hook's file, and our settings where something is told of this CRI-O.
func (c *Crio) files(l layout) (map[string]string, error) {
	n := &ofCrio{node: &node{layout: l}, crio: &doctor.Crio{}}
	files, err := n.hookFile()
	if told := c.Told; told != nil && err == nil {
		if told.Sandbox == "" || !filepath.IsAbs(told.DropIn) {
			return nil, fmt.Errorf("crio.told: sandbox %q, dropIn %q; expected an image by digest and an absolute path", told.Sandbox, told.DropIn)
		}
		config := maps.Clone(told.Config)
		if config == nil {
			config = map[string]any{}
		}
		nri := maps.Clone(table(config, "nri"))
		nri["nri_listen"], config["nri"] = c.NRI, nri
		n.crio.Config, n.sandbox, n.dropIn = config, told.Sandbox, told.DropIn
		var dropIn []file
		dropIn, err = n.dropInFile()
		files = append(files, dropIn...)
	}
	found := map[string]string{}
	for _, one := range files {
		found[one.path] = string(one.content)
	}
	return found, err
}
