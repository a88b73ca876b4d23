package nri

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheNRIOfAProgramIsNamed(t *testing.T) {
	self, err := os.Executable() // built with the version of go.mod
	if err != nil {
		t.Fatal(err)
	}
	mod, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	if found, err := VersionIn(self); err != nil || found != strings.TrimSpace(string(mod)) {
		t.Errorf("got %q, %v, expected %s", found, err, mod)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if found, err := VersionIn(script); err == nil {
		t.Errorf("a script has NRI %q", found)
	}
}
