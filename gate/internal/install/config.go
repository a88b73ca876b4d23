package install

import (
	"encoding/json"
	"fmt"

	"countersign/gate/internal/config"
)

// hookTimeout is in seconds; without one runc waits for ever.
const hookTimeout = 10

// gateConfig gives gate.json.
func (n *node) gateConfig(pins []string) ([]byte, error) {
	registry := map[string]any{"certsDir": n.certs, "dockerConfig": n.logins()}
	if p := n.Providers; p != nil {
		registry["credentialProviders"] = p
	}
	document := map[string]any{
		"policy":   n.policy(),
		"pinned":   pins,
		"socket":   n.socket(),
		"evidence": map[string]any{"dir": n.evidence(), "maxBytes": 256 << 20, "maxEntries": 20000},
		"log":      n.log + "/verdicts.jsonl",
		"metrics":  "unix:" + n.run + "/metrics.sock",
		"containerd": map[string]any{
			"address": n.Socket, "namespace": namespace, "snapshotters": []string{"overlayfs", "native"},
			"nri": n.nri(), "hook": n.hook(),
		},
		"registry": registry,
		"timeouts": map[string]string{"registry": "3s", "verdict": "4.5s", "pull": "20s"},
	}
	if len(n.PolicyKeys) > 0 {
		document["policyKeys"] = n.PolicyKeys
	}
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
	if err := json.Unmarshal(spec, &document); err != nil {
		return nil, fmt.Errorf("not an OCI runtime spec: %w", err)
	}
	process, ok := document["process"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("not an OCI runtime spec: it has no process")
	}
	delete(process, "rlimits")
	hooks, _ := document["hooks"].(map[string]any)
	if hooks == nil {
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
