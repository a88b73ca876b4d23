package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// ofContainerd is a node with containerd.
type ofContainerd struct{ *node }

func (n ofContainerd) look(ctx context.Context) (err error) {
	if n.found, err = n.survey(n.Socket); err != nil {
		return fmt.Errorf("containerd: %w; name its socket with --containerd-socket", err)
	}
	if n.found.Refused != "" {
		return errors.New(n.found.Refused)
	}
	if err := n.held(); err != nil {
		return err
	}
	if err := n.installedFor(n.found.Unit); err != nil {
		return err
	}
	n.result.Runtime = "containerd " + n.found.Version
	if path, _ := n.found.At(criImages + "/registry/config_path").(string); path != "" {
		n.certs = filepath.SplitList(path)[0]
	}
	if err := n.writable(); err != nil {
		return err
	}
	named, _ := n.found.At(criImages + "/pinned_images/sandbox").(string)
	if n.sandbox, n.sandboxNamed, err = n.sandboxByDigest(ctx, "pinned_images.sandbox", named); err != nil {
		return err
	}
	return n.baseSpecs(ctx)
}

func (n ofContainerd) block() (string, any) {
	return "containerd", n.layout.ofContainerd(n.Socket, n.nri())
}

func (n ofContainerd) folders() []file {
	return []file{{path: n.verifiers, mode: 0o755}, {path: n.certs, mode: 0o755}, {path: filepath.Dir(n.dropIn), mode: 0o755}}
}

func (n ofContainerd) writes() []file { return []file{{path: filepath.Dir(n.found.File)}} }

func (n ofContainerd) before(context.Context) ([]step, error) {
	specs := n.specFiles()
	return []step{
		{"base specs with the hook", n.differ(specs), n.put(specs)},
		{"pull-time verifier", n.unlinked, n.linkVerifier},
	}, nil
}

func (n ofContainerd) after(ctx context.Context) ([]step, error) {
	dropIn, err := n.dropInFile()
	if err != nil {
		return nil, err
	}
	return []step{
		{"sandbox image by digest", n.sandboxUnnamed(ctx), func() error { return n.nameSandbox(ctx) }},
		{"containerd by our settings", n.containerdToStart(dropIn, n.specFiles()), func() error { return n.configure(ctx, dropIn) }},
	}, nil
}

func (n ofContainerd) restart(ctx context.Context) error { return n.restartContainerd(ctx) }

func (n *node) specFiles() []file {
	specs := []file{}
	for _, handler := range slices.Sorted(maps.Keys(n.specs)) {
		specs = append(specs, file{n.specs[handler].path, n.specs[handler].content, 0o644})
	}
	return specs
}

// nri gives the socket of NRI, or "" where no plugin can be required.
func (n *node) nri() string {
	if !n.found.Requires {
		return ""
	}
	if path, _ := n.found.At(nriPlugin + "/socket_path").(string); path != "" {
		return path
	}
	return defaultSocket
}

// baseSpecs makes a spec with our hook for each runtime handler, of the one that it has.
func (n *node) baseSpecs(ctx context.Context) error {
	handlers, _ := n.found.At(criRuntime + "/containerd/runtimes").(map[string]any)
	if len(handlers) == 0 {
		return fmt.Errorf("%s names no runtime handler", n.found.File)
	}
	n.specs = map[string]spec{}
	for handler, settings := range handlers {
		table, _ := settings.(map[string]any)
		path, _ := table["base_runtime_spec"].(string)
		var content []byte
		var err error
		if path != "" {
			content, err = os.ReadFile(path)
		} else {
			content, err = n.ociSpec(ctx)
		}
		if err == nil {
			content, err = n.withHook(content)
		}
		if err != nil {
			return fmt.Errorf("base spec of the handler %s: %w", handler, err)
		}
		if filepath.Dir(path) != n.etc {
			path = filepath.Join(n.etc, "base-"+filepath.Base(handler)+".json")
		}
		n.specs[handler] = spec{path, content}
	}
	return nil
}

// ociSpec asks containerd for its default spec.
func ociSpec(ctx context.Context) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "ctr", "oci", "spec").Output()
	if err != nil {
		return nil, fmt.Errorf("ctr oci spec: %w", err)
	}
	return out, nil
}
