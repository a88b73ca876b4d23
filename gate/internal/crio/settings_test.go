package crio

import (
	"net"
	"net/http"
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
		s, err := Ask(t.Context(), socket)
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
