package nri

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheRuntimesOwnNRIIsNamed(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "nri.sock")
	runtime(t, socket) // in this process, which is built with the version of go.mod
	p, stop := plugin(t, socket, false)
	becomes(t, p, Connected)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if want := builtWith(self); want == "" || p.Version() != want {
		t.Errorf("got %q, expected %q", p.Version(), want)
	}
	stop()
	if p.Version() != "" {
		t.Errorf("not registered, and yet %q", p.Version())
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if found := builtWith(text); found != "" {
		t.Errorf("a script has NRI %q", found)
	}
}
