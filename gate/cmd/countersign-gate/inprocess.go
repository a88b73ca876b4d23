package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/engine"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/layout"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/reference"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// Bounds of a verification that no node waits for.
const (
	inProcessRegistry = 20 * time.Second
	inProcessVerdict  = 30 * time.Second
	inProcessEvidence = 64 << 20
	inProcessEntries  = 256
	maxKeyFile        = 64 << 10
)

// fromLayout is the source of a verdict that rests on what is in a folder.
const fromLayout = "layout"

// inProcess says what "verify" goes by where neither a running gate nor gate.json
// decides: keys or a policy, and how registries are reached.
type inProcess struct {
	keys         files
	policy       string
	dockerConfig string
	certsDir     string
	layout       string
	free         bool // neither keys nor a policy are needed
}

// files is an option that may be given more than once.
type files []string

func (f *files) String() string { return fmt.Sprint([]string(*f)) }

func (f *files) Set(path string) error {
	if path == "" {
		return errors.New("no file")
	}
	*f = append(*f, path)
	return nil
}

func (a *inProcess) flags(flags *flag.FlagSet) {
	flags.Var(&a.keys, "key", "public key `FILE`: decide in this process, as a policy that wants any of the keys given; gate.json is not read")
	flags.StringVar(&a.policy, "policy", "", "rendered policy `FILE`: decide in this process by it; gate.json is not read")
	flags.StringVar(&a.dockerConfig, "docker-config", "", "with --key or --policy: Docker config.json `FILE` for registries")
	flags.StringVar(&a.certsDir, "certs-dir", "", "with --key or --policy: certs.d `DIR` for registries")
	flags.StringVar(&a.layout, "layout", "", "with --key or --policy: image layout `DIR` that has the image and its signatures; no registry is asked")
}

// wanted says whether to decide by what was given here.
func (a *inProcess) wanted() bool { return len(a.keys) > 0 || a.policy != "" }

func (a *inProcess) check() error {
	switch {
	case len(a.keys) > 0 && a.policy != "":
		return errors.New("expected --key or --policy, got both")
	case !a.wanted() && !a.free && a.layout != "":
		return errors.New("--layout goes with --key or --policy")
	case !a.wanted() && !a.free && (a.dockerConfig != "" || a.certsDir != ""):
		return errors.New("--docker-config and --certs-dir go with --key or --policy; else gate.json has them")
	case a.layout != "" && (a.dockerConfig != "" || a.certsDir != ""):
		return errors.New("--docker-config and --certs-dir are for registries, and with --layout none is asked")
	}
	return nil
}

// load gives the policy to decide by on the image of that name.
func (a *inProcess) load(name string) (*policy.Policy, error) {
	if a.policy != "" {
		p, err := policy.Load(a.policy)
		return p, advise(err, "--policy is a rendered policy: policy.yaml becomes one by ./inv policy.render --engine gate --out FILE")
	}
	keys := make([]string, 0, len(a.keys))
	for _, path := range a.keys {
		key, err := readKeyFile(path)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	scopes := map[string]any{}
	if parsed, err := reference.Normalise(name); err == nil && !parsed.IDForm {
		scopes[parsed.Repository] = map[string]any{"anyOf": []string{"key"}}
	}
	document, err := json.Marshal(map[string]any{
		"version": policy.Version, "pinned": []string{}, "scopes": scopes,
		"roots":   map[string]any{"key": map[string]any{"publicKey": map[string]any{"keys": keys}}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(document)
	if err != nil {
		err = fmt.Errorf("--key %s: %w", strings.Join(a.keys, " "), advise(err, "give the public half of a key, as signing.public-key and cosign public-key print it"))
	}
	return p, err
}

// advise gives a refusal another remedy: what was given here is not a node's policy.
func advise(err error, do string) error {
	var refusal *code.Refusal
	if errors.As(err, &refusal) {
		return code.Refuse(refusal.Code, refusal.Found, refusal.Expected, do)
	}
	return err
}

func readKeyFile(path string) (string, error) {
	content, err := bounded.File(path, maxKeyFile)
	return string(content), err
}

// decide runs the engine of the daemon, with an evidence store that is empty and
// goes away. The error is that of this machine's folders, not of the image.
func (a *inProcess) decide(ctx context.Context, p *policy.Policy, source registry.Config, name string) (v *verdict.Verdict, err error) {
	dir, err := os.MkdirTemp("", "countersign-verify-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	gate, store, err := inFolder(dir, source)
	if err != nil {
		return nil, err
	}
	defer store.Flush() // what is still being written would outlive the folder
	gate.SetPolicy(p)
	v = decide(ctx, gate, wire.Verify, name)
	if a.layout != "" && v.Source == string(evidence.FromRegistry) {
		v.Source = fromLayout
	}
	return v, nil
}

// inFolder gives the engine of the daemon over a source, with a store of its own in dir.
func inFolder(dir string, source registry.Config) (*engine.Engine, *evidence.Store, error) {
	settings := &config.Config{}
	settings.Evidence.Dir, settings.Evidence.MaxBytes, settings.Evidence.MaxEntries = dir, inProcessEvidence, inProcessEntries
	settings.Timeouts.Verdict = config.Duration(inProcessVerdict)
	settings.Timeouts.Pull = config.Duration(inProcessVerdict)
	store, err := openStore(settings)
	if err != nil {
		return nil, nil, err
	}
	return engineOver(settings, registry.New(source), store, nowhere{}, silent{}), store, nil
}

// source says where the image and its signatures are looked for. close ends its use.
func (a *inProcess) source() (source registry.Config, close func() error, err error) {
	if a.layout == "" {
		return registry.Config{CertsDir: a.certsDir, DockerConfig: a.dockerConfig, Timeout: inProcessRegistry}, func() error { return nil }, nil
	}
	folder, err := layout.Open(a.layout)
	if err != nil {
		return registry.Config{}, nil, fmt.Errorf("--layout: %w", err)
	}
	return registry.Config{Transport: folder, Timeout: inProcessRegistry}, folder.Close, nil
}

// nowhere is the binder of a process that stands on no node.
type nowhere struct{}

func (nowhere) State([]byte) (*bind.State, error) { return nil, noNode() }

func (nowhere) Container(context.Context, *bind.State, *verdict.Trace) (*bind.Bound, error) {
	return nil, noNode()
}

func (nowhere) Sandbox(context.Context, string) (*bind.Bound, error) { return &bind.Bound{}, noNode() }

func (nowhere) Live(context.Context, string) (*bind.State, error) { return nil, noNode() }

func (nowhere) Lookup(context.Context, string, *verdict.Trace) ([]bind.Candidate, error) {
	return nil, noNode()
}

func noNode() error {
	return code.Refuse(code.BadReference, "an image ID, and no node is asked with --key or --policy",
		"an image's name", "give NAME:TAG or NAME@DIGEST")
}
