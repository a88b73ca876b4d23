package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	subject     = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	referrer    = `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"mediaType":"x/y"},"subject":{"digest":"` + subject + `"}}`
)

func start(t *testing.T, path string) *httptest.Server {
	t.Helper()
	kept, err := open(path, registry.New(registry.WithReferrersSupport(true)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(kept)
	t.Cleanup(func() { server.Close(); kept.file.Close() })
	return server
}

func send(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", ociManifest)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(content)
}

func TestManifestsOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manifests.jsonl")
	server := start(t, path)
	if answer, _ := send(t, "PUT", server.URL+"/v2/a/b/manifests/v1", referrer); answer.Header.Get("OCI-Subject") != subject {
		t.Errorf("OCI-Subject is %q", answer.Header.Get("OCI-Subject"))
	}
	send(t, "PUT", server.URL+"/v2/a/b/manifests/gone", referrer)
	send(t, "DELETE", server.URL+"/v2/a/b/manifests/gone", "")
	server.Close()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(file, `{"method":"PUT","pa`) // a crash in the middle of a line
	file.Close()

	again := start(t, path)
	if answer, content := send(t, "GET", again.URL+"/v2/a/b/manifests/v1", ""); answer.StatusCode != 200 || content != referrer {
		t.Errorf("after the restart: %d %s", answer.StatusCode, content)
	}
	if answer, _ := send(t, "GET", again.URL+"/v2/a/b/manifests/gone", ""); answer.StatusCode != 404 {
		t.Errorf("a deleted tag came back: %d", answer.StatusCode)
	}
	if _, content := send(t, "GET", again.URL+"/v2/a/b/referrers/"+subject, ""); strings.Count(content, `"x/y"`) != 1 {
		t.Errorf("referrers: %s", content)
	}
	send(t, "PUT", again.URL+"/v2/a/b/manifests/v2", referrer)
	if answer, _ := send(t, "GET", start(t, path).URL+"/v2/a/b/manifests/v2", ""); answer.StatusCode != 200 {
		t.Errorf("written after half a line was cut off: %d", answer.StatusCode)
	}
}

func TestReferrersOfAnUnknownRepositoryAreAnEmptyList(t *testing.T) {
	server := start(t, filepath.Join(t.TempDir(), "manifests.jsonl"))
	answer, content := send(t, "GET", server.URL+"/v2/no/such/referrers/"+subject, "")
	if answer.StatusCode != 200 || content != noReferrers {
		t.Errorf("%d %s", answer.StatusCode, content)
	}
}

func TestARefusedManifestIsNotKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manifests.jsonl")
	server := start(t, path)
	if answer, _ := send(t, "DELETE", server.URL+"/v2/no/such/manifests/v1", ""); answer.StatusCode != 404 {
		t.Errorf("status %d", answer.StatusCode)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("journal: %v, %v", info, err)
	}
}
