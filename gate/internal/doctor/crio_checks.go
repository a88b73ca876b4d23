package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"countersign/gate/internal/bounded"
)

// hookFile is our hook's name in its folder of hooks (oci-hooks(5)).
const hookFile = "countersign.json"

// restoresNone are values of crio.checkpoint_restore under which no container comes
// from a checkpoint.
var restoresNone = []any{"", "none", "checkpoint_only", false}

// crioChecks are those of a node with CRI-O.
func crioChecks() []Check {
	return []Check{
		{Name: "crio.answers", LooksAt: "CRI-O at its socket, and its configuration in effect", Wanted: "a CRI-O that answers", look: crioAnswers},
		{Name: "crio.signature_policy", LooksAt: "signature_policy, and the default of that file", Wanted: "our policy, set explicitly, which rejects by default", look: ofCrio(signaturePolicy)},
		{Name: "crio.signature_policy_dir", LooksAt: "signature_policy_dir, and what lies there", Wanted: "our folder, empty and root's", look: ofCrio(namespacePolicies)},
		{Name: "crio.hooks_dir", LooksAt: "hooks_dir, our hook's file, and files that take its place", Wanted: "our folder, with the hook as set-up wrote it", look: ofCrio(hooksRead)},
		{Name: "crio.pause_image", LooksAt: "pause_image, and the policy's pins", Wanted: "an image by digest, and pinned", look: ofCrio(pausePinned)},
		{Name: "crio.restore", LooksAt: "enable_criu_support, crio.checkpoint_restore", Wanted: "no way to restore a checkpoint: it starts without being judged", look: ofCrio(crioRestores)},
		{Name: "crio.nri", LooksAt: "crio.nri: enable_nri, nri_disable_connections, and its default validator", Wanted: "the gate required as a plugin, and no pod able to waive it", look: ofCrio(crioRequiresPlugin)},
		{Name: "crio.handlers", LooksAt: "each runtime handler: runtime_type", Wanted: "one that runs hooks", look: ofCrio(crioHandlers)},
		{Name: "crio.additional_image_stores", LooksAt: "storage_option (additional image stores)", Wanted: "none: the gate refuses their images", look: ofCrio(imageStores), warns: true},
	}
}

func crioAnswers(n *Node) ([]Finding, error) {
	_, err := n.crio()
	if err == nil || errors.Is(err, os.ErrPermission) {
		return nil, err
	}
	return []Finding{{"CRI-O", fmt.Sprintf("without an answer (%v)", err), "a CRI-O that answers at " + n.options.CrioSocket, "systemctl restart crio"}}, nil
}

// crioSet says how a setting of CRI-O is fixed.
func (n *Node) crioSet(c *crioFacts, table, key string, value any) string {
	return n.options.again(fmt.Sprintf("set %s = %s in [%s], in the last file of CRI-O's crio.conf.d, then: %s", key, shown(value), table, n.restart(c.unit, "crio")))
}

func (n *Node) crioFolder() string { return filepath.Join(n.etc(), "crio") }

func signaturePolicy(n *Node, c *crioFacts) ([]Finding, error) {
	wanted := filepath.Join(n.crioFolder(), "policy.json")
	if found := c.config.at("image", "signature_policy"); found != wanted {
		return []Finding{{"signature_policy", shown(found), fmt.Sprintf("%q: else starts are not checked", wanted), n.crioSet(c, "crio.image", "signature_policy", wanted)}}, nil
	}
	mend := n.options.again("render the policy to this node again")
	content, err := readBounded(wanted)
	if os.IsNotExist(err) {
		return []Finding{{wanted, "missing", "our policy", mend}}, nil
	}
	if err != nil {
		return nil, err
	}
	var policy struct {
		Default []struct {
			Type string `json:"type"`
		} `json:"default"`
	}
	if err := json.Unmarshal(content, &policy); err != nil || len(policy.Default) != 1 || policy.Default[0].Type != "reject" {
		return []Finding{{wanted, "a policy that does not reject by default", `{"default": [{"type": "reject"}], …}`, mend}}, nil
	}
	found, err := n.engineBehind(wanted)
	return append(found, n.writable(wanted, n.crioFolder())...), err
}

// engineBehind finds an engine whose policy is not the gate's. One that is being replaced
// is looked at again.
func (n *Node) engineBehind(path string) ([]Finding, error) {
	file := n.settings.PolicyFile()
	if file.Engine == nil {
		return nil, nil // others render it
	}
	for look := 1; ; look++ {
		p, err := file.Read()
		if err != nil {
			return nil, after("gate.policy")
		}
		differs, err := file.Engine.Differs(p)
		if err != nil || !differs {
			return nil, err
		}
		if look == looks {
			mend := "countersign-gate install-policy " + file.Path
			return []Finding{{path, "not what the gate's policy says", "the policy in the form of CRI-O's own engine, and " + n.settings.Crio.Engine.RegistriesD + " beside it", mend}}, nil
		}
		time.Sleep(between)
	}
}

const (
	// looks is how often a policy is looked at that may just be replaced.
	looks   = 3
	between = 100 * time.Millisecond
)

func namespacePolicies(n *Node, c *crioFacts) ([]Finding, error) {
	folder := filepath.Join(n.crioFolder(), "namespaces")
	if found := c.config.at("image", "signature_policy_dir"); found != folder {
		return []Finding{{"signature_policy_dir", shown(found), shown(folder), n.crioSet(c, "crio.image", "signature_policy_dir", folder)}}, nil
	}
	real, err := filepath.EvalSymlinks(folder) // CRI-O follows a link, WalkDir does not
	if os.IsNotExist(err) {
		return []Finding{{folder, "missing", "an empty folder of root's", n.options.again("install -d -m 0700 " + folder)}}, nil
	}
	if err != nil {
		return nil, err
	}
	var found []Finding
	err = filepath.WalkDir(real, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(entry.Name(), ".json") {
			found = append(found, Finding{path, "a policy for one namespace, which replaces the policy", "no such file", "rm " + path})
		}
		return err
	})
	return append(found, n.writable(folder)...), err
}

func hooksRead(n *Node, c *crioFacts) ([]Finding, error) {
	folder := filepath.Join(n.crioFolder(), "hooks.d")
	folders := c.config.texts("runtime", "hooks_dir")
	at := slices.Index(folders, folder)
	if at < 0 {
		return []Finding{{"hooks_dir", shown(folders), fmt.Sprintf("one with %q", folder), n.crioSet(c, "crio.runtime", "hooks_dir", append(folders, folder))}}, nil
	}
	var found []Finding
	for _, later := range folders[at+1:] {
		if path := filepath.Join(later, hookFile); exists(path) {
			found = append(found, Finding{path, "read in place of our hook, which has the same name", "no such file", "rm " + path})
		}
	}
	path := filepath.Join(folder, hookFile)
	content, err := readBounded(path)
	mend := n.options.again("write the hook there again, then: " + n.restart(c.unit, "crio"))
	switch {
	case os.IsNotExist(err):
		found = append(found, Finding{path, "missing", "our hook", mend})
	case err != nil:
		return found, err
	case !n.isHookFile(content):
		found = append(found, Finding{path, "not the hook that set-up wrote", "our hook", mend})
	}
	return append(found, n.writable(folder, path)...), nil
}

// isHookFile says whether a file of hooks.d gives every container our hook.
func (n *Node) isHookFile(content []byte) bool {
	var found struct {
		Version string `json:"version"`
		Hook    hook   `json:"hook"`
		When    struct {
			Always bool `json:"always"`
		} `json:"when"`
		Stages []string `json:"stages"`
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields() // a condition more would be a hook for fewer containers
	if decoder.Decode(&found) != nil {
		return false
	}
	_, err := decoder.Token() // CRI-O drops a hook that has something behind it
	return errors.Is(err, io.EOF) && found.Version == "1.0.0" && found.Hook.ours(n) && found.When.Always &&
		slices.Equal(found.Stages, []string{"createRuntime"})
}

func pausePinned(n *Node, c *crioFacts) ([]Finding, error) {
	image, _ := c.config.at("image", "pause_image").(string)
	return n.sandboxProblems("pause_image", image, n.crioSet(c, "crio.image", "pause_image", "REPOSITORY@sha256:…"))
}

// crioRestores finds the settings in effect that let a checkpoint be restored. CRI-O
// has either enable_criu_support, on unless it says otherwise, or the table
// crio.checkpoint_restore, whose level restores nothing unless it says so; some
// versions have both.
func crioRestores(n *Node, c *crioFacts) ([]Finding, error) {
	table := c.config.table("checkpoint_restore")
	on := map[string]any{}
	switch value := c.config.at("runtime", "enable_criu_support"); {
	case value == nil && table == nil:
		on["enable_criu_support"] = true
	case value != nil && value != false:
		on["enable_criu_support"] = value
	}
	for key, value := range table {
		if strings.HasSuffix(key, "_enabled") && !slices.Contains(restoresNone, value) {
			on["crio.checkpoint_restore."+key] = value
		}
	}
	var found []Finding
	for _, key := range slices.Sorted(maps.Keys(on)) {
		mend := fmt.Sprintf("take %s out of CRI-O's configuration, then: %s", key, n.restart(c.unit, "crio"))
		found = append(found, Finding{key, shown(on[key]), "a value that restores nothing: a restored checkpoint starts without being judged", mend})
	}
	return found, nil
}

func crioRequiresPlugin(n *Node, c *crioFacts) ([]Finding, error) {
	nri := maps.Clone(c.config.table("nri"))
	maps.Copy(nri, c.config.table("nri", "default_validator"))
	var found []Finding
	for _, each := range []struct {
		key    string
		wanted any
		newer  bool // not every CRI-O has it
	}{
		{key: "enable_nri", wanted: true},
		{key: "nri_disable_connections", wanted: false},
		{key: "nri_enable_default_validator", wanted: true},
		{key: "nri_validator_tolerate_missing_plugins_annotation", wanted: ""},
		{key: "nri_validator_reject_oci_hook_adjustment", wanted: false, newer: true},
	} {
		if value := nri[each.key]; value != each.wanted && !(each.newer && value == nil) {
			found = append(found, Finding{"crio.nri." + each.key, shown(value), shown(each.wanted), n.crioSet(c, "crio.nri", each.key, each.wanted)})
		}
	}
	const key = "nri_validator_required_plugins"
	if required := nri.texts(key); !slices.Contains(required, pluginName) {
		found = append(found, Finding{"crio.nri." + key, shown(required), fmt.Sprintf("one with %q", pluginName), n.crioSet(c, "crio.nri", key, append(required, pluginName))})
	}
	return found, nil
}

func crioHandlers(n *Node, c *crioFacts) ([]Finding, error) {
	handlers := c.config.table("runtime", "runtimes")
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		if kind := tree(asTable(handlers[name])).at("runtime_type"); kind == "vm" {
			mend := fmt.Sprintf("take [crio.runtime.runtimes.%s] out of CRI-O's configuration, then: %s", name, n.restart(c.unit, "crio"))
			found = append(found, Finding{"handler " + name + ": runtime_type", shown(kind), "one that runs hooks, such as \"oci\"", mend})
		}
	}
	return found, nil
}

func imageStores(n *Node, c *crioFacts) ([]Finding, error) {
	var found []Finding
	for _, option := range c.config.texts("storage_option") {
		if key, _, _ := strings.Cut(option, "="); strings.HasSuffix(key, "imagestore") {
			found = append(found, Finding{"storage_option", shown(option), "no additional image store: the gate refuses its images (NO_RECORD)", "take it out of CRI-O's configuration, or of storage.conf"})
		}
	}
	return found, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// readBounded reads a file of which no more than maxSpec bytes count.
func readBounded(path string) ([]byte, error) {
	file, err := bounded.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxSpec))
}
