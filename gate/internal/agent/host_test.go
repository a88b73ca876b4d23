package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// A node that only observes is asked to go like any other: without this it said NotRemoved,
// and helm uninstall waited for it until its time was over.
func TestANodeThatInstallNeverChangedHasNothingToTakeOff(t *testing.T) {
	for name, row := range map[string]struct {
		left  string
		fails bool
	}{
		"nothing of ours":                {"", false},
		"what install did, to be undone": {"/var/lib/countersign/installed.json", true}, // and no program that could
		"a gate that others set up":      {gate, true},                                  // no ELF: it can't be asked
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if row.left != "" {
				path := filepath.Join(root, row.left)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, nil, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := Below(root).Uninstall(t.Context()); (err != nil) != row.fails {
				t.Error(err)
			}
		})
	}
}
