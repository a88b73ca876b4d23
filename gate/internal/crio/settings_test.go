package crio

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestARunningCrioTellsItsSettings(t *testing.T) {
	const good = "[crio]\nroot = \"/r\"\nrunroot = \"/rr\"\n[crio.runtime]\nhooks_dir = [\"/h1\", \"/h2\"]\n"
	for _, test := range []struct{ name, document, says string }{
		{"as it is", good, ""},
		{"no TOML", good[:10], "can't be read"},
		{"no run root", strings.Replace(good, `"/rr"`, `""`, 1), `runroot ""`},
		{"a relative root", strings.Replace(good, `"/r"`, `"r"`, 1), `root "r"`},
		{"not found", "", "404"},
	} {
		socket := filepath.Join(t.TempDir(), "crio.sock")
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/config" || test.document == "" {
				w.WriteHeader(http.StatusNotFound)
			}
			_, _ = w.Write([]byte(test.document)) // the client tells what it did not get
		})}
		go func() { _ = server.Serve(listener) }() // ends with Close
		s, err := Inspect(t.Context(), socket)
		_ = server.Close()
		if test.says != "" {
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), socket) {
				t.Errorf("%s: got %+v, %v", test.name, s, err)
			}
			continue
		}
		if err != nil || s.Root != "/r" || s.RunRoot != "/rr" || !slices.Equal(s.HooksDir, []string{"/h1", "/h2"}) {
			t.Errorf("%s: got %+v, %v", test.name, s, err)
		}
	}
}

func TestFoldersOfHooksAreSearchedForOurs(t *testing.T) {
	const ours = `{"version": "1.0.0", "hook": {"path": "/usr/local/bin/countersign-hook"}}`
	for _, test := range []struct {
		name, file, content string
		found               int
		fails               string
	}{
		{"ours", "countersign.json", ours, 1, ""},
		{"in another place", "countersign.json", strings.Replace(ours, "/usr/local", "/opt", 1), 1, ""},
		{"another's", "nvidia.json", strings.Replace(ours, "countersign", "nvidia", 1), 0, ""},
		{"not a file that CRI-O reads", "countersign.json.old", ours, 0, ""},
		{"no JSON", "countersign.json", ours[:10], 0, "unexpected end"},
	} {
		folder := t.TempDir()
		path := filepath.Join(folder, test.file)
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := Settings{HooksDir: []string{filepath.Join(folder, "none"), folder}}
		found, err := s.Hooked(func(program string) bool { return filepath.Base(program) == "countersign-hook" })
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: got %v, %v", test.name, found, err)
			}
			continue
		}
		if err != nil || len(found) != test.found {
			t.Errorf("%s: got %v, %v", test.name, found, err)
		}
	}
}
