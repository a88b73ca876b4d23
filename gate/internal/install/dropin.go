package install

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Plugins of containerd.
const (
	criImages  = "io.containerd.cri.v1.images"
	criRuntime = "io.containerd.cri.v1.runtime"
	verifiers  = "io.containerd.image-verifier.v1.bindir"
	transfer   = "io.containerd.transfer.v1.local"
	nriPlugin  = "io.containerd.nri.v1.nri"

	plugin        = "countersign"
	verifierTime  = "30s"
	defaultSocket = "/var/run/nri/nri.sock"
	overlayfs     = "overlayfs"
)

const heading = "# countersign: what a containerd under enforcement has to say. Removed by countersign-gate uninstall.\n"

// settings gives what the configuration has to say, below "plugins". What has one good
// value is what doctor looks for.
func (n *node) settings() map[string]any {
	c := n.found
	wanted := c.Settings()
	table(wanted, verifiers)["bin_dir"] = n.verifiers
	table(wanted, verifiers)["per_verifier_timeout"] = verifierTime
	images := table(wanted, criImages)
	table(images, "pinned_images")["sandbox"] = n.sandbox
	hosts, _ := c.At(criImages + "/registry/config_path").(string)
	table(images, "registry")["config_path"] = cmp.Or(hosts, n.certs) // a later install finds ours
	runtime := table(wanted, criRuntime)
	if c.Criu {
		runtime["enable_criu"] = false
	}
	if n.lacksResource {
		runtime["restrict_oom_score_adj"] = true
	}
	for handler, spec := range n.specs {
		table(runtime, "containerd", "runtimes", handler)["base_runtime_spec"] = spec.path
	}
	if c.Requires {
		table(wanted, nriPlugin)["socket_path"] = n.nri()
		required := texts(c.At(nriPlugin + "/default_validator/required_plugins"))
		if !slices.Contains(required, plugin) {
			required = append(required, plugin)
		}
		table(wanted, nriPlugin, "default_validator")["required_plugins"] = required
	}
	if snapshotter, _ := c.At(criImages + "/snapshotter").(string); snapshotter != "" && snapshotter != overlayfs {
		// The transfer service unpacks for its default snapshotter only.
		table(wanted, transfer)["unpack_config"] = []any{
			map[string]any{"platform": n.platform, "snapshotter": snapshotter, "differ": "walking"},
		}
	}
	return wanted
}

// dropIn gives the file that containerd reads beside its own configuration.
func (n *node) dropInFile() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(heading)
	err := toml.NewEncoder(&out).Encode(map[string]any{"version": 3, "plugins": n.settings()})
	return out.Bytes(), err
}

// missing names what of wanted is not in effect.
func missing(wanted, effective map[string]any) []string {
	return differences(wanted, effective, func(path string, want, have any) bool {
		if list := texts(want); list != nil { // containerd may join lists
			have := texts(have)
			return !slices.ContainsFunc(list, func(each string) bool { return !slices.Contains(have, each) })
		}
		return same(want, have)
	})
}

// lost names what was in effect, is none of ours, and would not be any more. Which files
// that came from may change.
func lost(before, after, ours map[string]any) []string {
	return differences(before, after, func(path string, had, have any) bool {
		return path == "imports" || same(had, have) || at(ours, strings.Split(path, "/")) != nil
	})
}

// differences names the leaves of a document that do not pass, sorted.
func differences(document, other map[string]any, passes func(path string, a, b any) bool) []string {
	var found []string
	var walk func(path []string, a, b any)
	walk = func(path []string, a, b any) {
		if inner, ok := a.(map[string]any); ok {
			against, _ := b.(map[string]any)
			for _, key := range slices.Sorted(maps.Keys(inner)) {
				walk(append(slices.Clone(path), key), inner[key], against[key])
			}
			return
		}
		if name := strings.Join(path, "/"); !passes(name, a, b) {
			found = append(found, name)
		}
	}
	walk(nil, document, other)
	return found
}

// same compares values as two TOML readers may give them.
func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || fmt.Sprint(a) == fmt.Sprint(b)
}

// imports finds a top-level key of that name in a TOML file; one inside a table comes
// after the first table's header.
var (
	imports = regexp.MustCompile(`(?m)^[ \t]*imports[ \t]*=[ \t]*\[`)
	header  = regexp.MustCompile(`(?m)^[ \t]*\[`)
)

// importing gives a configuration file with the drop-in among its imports; comments and
// everything else stay. It gives nil where the file imports it already.
func importing(content []byte, file, dropIn string) ([]byte, error) {
	var document struct {
		Imports []string `toml:"imports"`
	}
	if err := toml.Unmarshal(content, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, pattern := range document.Imports {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		if ok, err := filepath.Match(pattern, dropIn); err == nil && ok {
			return nil, nil
		}
	}
	entry := fmt.Sprintf("%q", dropIn)
	found := imports.FindIndex(content)
	if table := header.FindIndex(content); found == nil || (table != nil && table[0] < found[0]) {
		return append([]byte("imports = ["+entry+"]\n"), content...), nil
	}
	if len(document.Imports) > 0 {
		entry += ", "
	}
	return slices.Concat(content[:found[1]], []byte(entry), content[found[1]:]), nil
}

// table gives the table at a path, and makes it where there is none.
func table(of map[string]any, path ...string) map[string]any {
	for _, key := range path {
		inner, _ := of[key].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			of[key] = inner
		}
		of = inner
	}
	return of
}

// at gives what lies at a path, or nil.
func at(of map[string]any, path []string) any {
	var found any = of
	for _, key := range path {
		inner, _ := found.(map[string]any)
		found = inner[key]
	}
	return found
}

// texts gives a list of texts; nil for what is none.
func texts(value any) []string {
	switch list := value.(type) {
	case []string:
		return list
	case []any:
		found := make([]string, 0, len(list))
		for _, each := range list {
			text, ok := each.(string)
			if !ok {
				return nil
			}
			found = append(found, text)
		}
		return found
	}
	return nil
}
