package registry_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

// TestProxyAndCAFile asks for example.com in a process of its own, since Go reads
// HTTPS_PROXY once. Its CA lies in certs.d/example.com/ca.crt, without a hosts.toml.
func TestProxyAndCAFile(t *testing.T) {
	if certs := os.Getenv("COUNTERSIGN_TEST_CERTS"); certs != "" {
		set, err := registry.New(registry.Config{CertsDir: certs}).Fetch(t.Context(), "example.com/demo/app", os.Getenv("COUNTERSIGN_TEST_DIGEST"), nil)
		complete(t, set, err)
		return
	}
	w := secure(t, plain)
	server := strings.TrimPrefix(w.server(t), "https://")
	proxy := testsign.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		target, err := net.Dial("tcp", server)
		if r.Method != http.MethodConnect || r.Host != "example.com:443" || err != nil {
			answer(rw, 502, "")
			return
		}
		client, early, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { io.Copy(target, early); target.Close() }() // early has what was read already
		io.Copy(client, target)
		client.Close()
	}))
	ca, err := os.ReadFile(filepath.Join(w.config.CertsDir, "fallback.test", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, file string
		works      bool
	}{{"with its CA", "ca.crt", true}, {"without", "ca.txt", false}} {
		t.Run(test.name, func(t *testing.T) {
			certs := t.TempDir()
			write(t, filepath.Join(certs, "example.com", test.file), string(ca), 0o644)
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestProxyAndCAFile$")
			child.Env = []string{"HTTPS_PROXY=http://" + proxy, "COUNTERSIGN_TEST_CERTS=" + certs, "COUNTERSIGN_TEST_DIGEST=" + w.digest}
			out, err := child.CombinedOutput()
			if (err == nil) != test.works || !test.works && !strings.Contains(string(out), "certificate") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// server gives the URL that hosts.toml leads to.
func (w *world) server(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.config.CertsDir, "fallback.test", "hosts.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), `"`)[1]
}
