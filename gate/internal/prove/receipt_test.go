package prove

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// keyFiles writes a key pair and gives the paths.
func keyFiles(t *testing.T, key crypto.Signer) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	private, public = filepath.Join(dir, "node.key"), filepath.Join(dir, "node.pub")
	secret, err := cryptoutils.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{private: secret, public: shown} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAReceiptIsSigned(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"ECDSA": newKey(t), "Ed25519": edwards} {
		t.Run(name, func(t *testing.T) {
			private, public := keyFiles(t, key)
			envelope, err := (&Receipt{Version: Version, Node: "node-1"}).Sign(private)
			if err != nil {
				t.Fatal(err)
			}
			_, others := keyFiles(t, newKey(t))
			for _, test := range []struct {
				name, key string
				envelope  []byte
				good      bool
			}{
				{"as it is", public, envelope, true},
				{"by another key", others, envelope, false},
				{"with another payload", public, altered(t, envelope, func(e map[string]any) {
					e["payload"] = base64.StdEncoding.EncodeToString([]byte(`{"version":"` + Version + `"}`))
				}), false},
				{"of another type", public, altered(t, envelope, func(e map[string]any) { e["payloadType"] = "application/json" }), false},
				{"without signatures", public, altered(t, envelope, func(e map[string]any) { e["signatures"] = []any{} }), false},
				{"in no envelope", public, []byte(`{"version":"` + Version + `"}`), false},
			} {
				t.Run(test.name, func(t *testing.T) {
					path := filepath.Join(t.TempDir(), "receipt.json")
					if err := Write(path, test.envelope); err != nil {
						t.Fatal(err)
					}
					receipt, err := Open(path, test.key)
					if test.good && (err != nil || receipt.Node != "node-1") || !test.good && !errors.Is(err, ErrNotSigned) {
						t.Errorf("got %+v, %v", receipt, err)
					}
				})
			}
		})
	}
}

func altered(t *testing.T, envelope []byte, change func(map[string]any)) []byte {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(envelope, &document); err != nil {
		t.Fatal(err)
	}
	change(document)
	content, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A receipt takes a file's place; a link goes on leading to it, and a pipe is written into.
func TestWriteLeavesLinksAndPipesWhatTheyAre(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "receipt.json"), filepath.Join(dir, "latest"), filepath.Join(dir, "pipe")
	err := errors.Join(os.WriteFile(file, []byte("former"), 0o600), os.Symlink("receipt.json", link), syscall.Mkfifo(pipe, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("by the link")); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "receipt.json" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "by the link" {
		t.Errorf("got %q, %v", content, err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // so that the writer has not to wait for one
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	if err := Write(pipe, []byte("into the pipe")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 64)
	if n, err := reader.Read(got); err != nil || string(got[:n]) != "into the pipe" {
		t.Errorf("got %q, %v", got[:n], err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the pipe is %v, %v", info, err)
	}
}

func TestAReceiptOfAnotherVersionIsNone(t *testing.T) {
	private, public := keyFiles(t, newKey(t))
	envelope, err := (&Receipt{Version: "countersign.receipt/v2"}).Sign(private)
	path := filepath.Join(t.TempDir(), "receipt.json")
	if err == nil {
		err = Write(path, envelope)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, public); !errors.Is(err, ErrNotSigned) || !strings.Contains(err.Error(), "receipt/v2") {
		t.Errorf("got %v", err)
	}
}

func TestAKeyThatOthersReadSignsNothing(t *testing.T) {
	private, _ := keyFiles(t, newKey(t))
	if _, err := (&Receipt{}).Sign(private); err != nil {
		t.Errorf("a key of the owner's: %v", err)
	}
	if err := os.Chmod(private, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Receipt{}).Sign(private); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Errorf("got %v", err)
	}
}

// newTLSServer serves, and gives a function that asks "METHOD PATH" and returns the status.
func newTLSServer(t *testing.T, handler http.Handler, certificate tls.Certificate) func(string) int {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return func(asked string) int {
		method, path, _ := strings.Cut(asked, " ")
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
}
