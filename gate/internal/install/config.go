package install

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"countersign/gate/internal/config"
)

// hookTimeout is in seconds; without one runc waits for ever.
const hookTimeout = 10

// gateConfig gives gate.json.
func (n *node) gateConfig(pins []string) ([]byte, error) {
	name, block := n.runtime.block()
	return n.layout.gateJSON(n.PolicyKeys, n.Providers, map[string]any{"pinned": pins, name: block})
}

// ofContainerd gives the block for containerd.
func (l layout) ofContainerd(address, nri string) config.Containerd {
	return config.Containerd{
		Address: address, Namespace: namespace, Snapshotters: []string{overlayfs, "native"}, NRI: nri, Hook: l.hook(),
	}
}

// gateJSON gives gate.json with the runtime's own block and what this node has beside.
func (l layout) gateJSON(policyKeys []string, providers *config.CredentialProviders, more map[string]any) ([]byte, error) {
	registry := map[string]any{"certsDir": l.certs, "dockerConfig": l.logins()}
	if providers != nil {
		registry["credentialProviders"] = providers
	}
	document := map[string]any{
		"policy":   l.policy(),
		"socket":   l.socket(),
		"evidence": map[string]any{"dir": l.evidence(), "maxBytes": 256 << 20, "maxEntries": 20000},
		"log":      l.log + "/verdicts.jsonl",
		"metrics":  "unix:" + l.run + "/metrics.sock",
		"registry": registry,
		"timeouts": map[string]string{"registry": "3s", "verdict": "4.5s", "pull": "20s"},
	}
	if len(policyKeys) > 0 {
		document["policyKeys"] = policyKeys
	}
	maps.Copy(document, more)
	content, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, err
	}
	if _, err := config.Parse(content); err != nil {
		return nil, fmt.Errorf("gate.json: %w", err)
	}
	return append(content, '\n'), nil
}

// withHook gives an OCI runtime spec with our hook before every other createRuntime
// hook. The default's resource limits are left out: without a base spec the CRI plugin
// clears them, with one it keeps them, and every container would get 1024 open files.
func (l layout) withHook(spec []byte) ([]byte, error) {
	var document map[string]any
	decoder := json.NewDecoder(bytes.NewReader(spec))
	decoder.UseNumber() // a limit may be more than what a float64 tells apart
	if err := decoder.Decode(&document); err != nil || decoder.More() {
		return nil, fmt.Errorf("not an OCI runtime spec: %w", cmp.Or(err, errors.New("more than one JSON document")))
	}
	process, ok := document["process"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("not an OCI runtime spec: it has no process")
	}
	delete(process, "rlimits")
	hooks, ok := document["hooks"].(map[string]any)
	if !ok {
		if document["hooks"] != nil {
			return nil, fmt.Errorf("not an OCI runtime spec: its hooks are not a table")
		}
		hooks = map[string]any{}
		document["hooks"] = hooks
	}
	ours := map[string]any{"path": l.hook(), "args": []string{hookName, "--socket", l.socket()}, "timeout": hookTimeout}
	entries := []any{ours}
	others, _ := hooks["createRuntime"].([]any)
	for _, each := range others {
		if entry, _ := each.(map[string]any); entry["path"] != l.hook() {
			entries = append(entries, each)
		}
	}
	hooks["createRuntime"] = entries
	content, err := json.MarshalIndent(document, "", "  ")
	return append(content, '\n'), err
}
