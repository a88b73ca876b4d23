package registry_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

const fuzzed = "registry.example/demo/app"

// answers is a registry's transport: one answer for each kind of request, by what
// the path has in it, else 404.
type answers func(req *http.Request) (status int, header http.Header, body []byte)

func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	status, header, body := a(req)
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req}, nil
}

// refusal checks that a look-up ended well, or in a typed refusal.
func refusal(t *testing.T, err error) {
	t.Helper()
	var r *code.Refusal
	if err != nil && (!errors.As(err, &r) || r.Code == "" || r.Code.Allows()) {
		t.Errorf("got %v, expected a refusal", err)
	}
}

// Whatever a registry answers, a look-up ends in evidence within its bounds, of
// content with the digests that were asked for, or in typed refusals.
func FuzzAnswers(f *testing.F) {
	key := testsign.NewKey(f)
	pusher := testsign.Pusher{Handler: testsign.Handler(true), Path: "demo/app"}
	digest := pusher.Image(f, "image")
	pusher.Attachments(f, digest, testsign.Attachment(f, key, fuzzed, digest))
	pusher.Bundles(f, digest, true, testsign.Bundle(f, key, digest))
	bundle := testsign.Bundle(f, key, digest)
	payload := testsign.Attachment(f, key, fuzzed, digest)
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":10,"artifactType":%q}]}`,
		"application/vnd.oci.image.index.v1+json", testsign.Digest([]byte("{}")), testsign.BundleType)
	manifest := func(content []byte) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"artifactType":%q,"subject":{"digest":%q},"layers":[{"mediaType":%q,"digest":%q,"size":%d,"annotations":{%q:"x"}}]}`,
			testsign.BundleType, digest, testsign.SimpleSigning, testsign.Digest(content), len(content), testsign.SignatureAnnotation)
	}
	f.Add(index, manifest(payload.Payload), manifest(bundle.JSON), payload.Payload, "<next?last=1>; rel=\"next\"")
	f.Add(index, []byte(`{"layers":[{"size":-1}]}`), []byte(`{"layers":null}`), []byte{}, "")
	f.Add([]byte(`{"manifests":5}`), []byte(`[]`), []byte(`null`), []byte("x"), "<%>;rel=next")
	f.Fuzz(func(t *testing.T, referrers, signatures, referrer, blob []byte, link string) {
		asked := 0
		transport := answers(func(req *http.Request) (int, http.Header, []byte) {
			asked++
			list := http.Header{"Content-Type": {"application/vnd.oci.image.index.v1+json"}, "Link": {link}}
			switch path := req.URL.Path; {
			case strings.Contains(path, "/referrers/"):
				return 200, list, referrers
			case strings.HasSuffix(path, ".sig"):
				return 200, nil, signatures
			case strings.Contains(path, "/blobs/"):
				return 200, nil, blob
			case strings.Contains(path, "/manifests/"):
				return 200, nil, referrer
			}
			return 404, nil, nil
		})
		config := registry.Config{Transport: serial(transport), Timeout: 10 * time.Second}
		set, err := registry.New(config).Fetch(t.Context(), fuzzed, digest, nil)
		refusal(t, err)
		for _, problem := range set.Problems {
			refusal(t, problem)
		}
		bounded(t, set, asked)
		for _, a := range set.Attachments {
			// A listing may have it in itself, or by its digest say that it is the usual one.
			listed := bytes.Contains(signatures, []byte(base64.StdEncoding.EncodeToString(a.Payload)))
			if !bytes.Equal(a.Payload, blob) && !listed && !bytes.Equal(a.Payload, testsign.Payload(fuzzed, digest)) {
				t.Errorf("%q is not what was served", a.Payload)
			}
		}
		if set.Manifest != nil && testsign.Digest(set.Manifest) != digest {
			t.Errorf("%q is taken for %s", set.Manifest, digest)
		}
		manifest, err := registry.New(config).Manifest(t.Context(), fuzzed, "latest")
		refusal(t, err)
		if err == nil && testsign.Digest(manifest.Raw) != manifest.Digest {
			t.Errorf("%q is taken for %s", manifest.Raw, manifest.Digest)
		}
	})
}

// serial answers one request after another.
func serial(a answers) http.RoundTripper {
	slot := make(chan struct{}, 1)
	return answers(func(req *http.Request) (int, http.Header, []byte) {
		slot <- struct{}{}
		defer func() { <-slot }()
		return a(req)
	})
}

// bounded checks a set, and the number of requests for it, against what the gate's
// documentation says.
func bounded(t *testing.T, set evidence.Set, asked int) {
	t.Helper()
	size := 0
	for _, a := range set.Attachments {
		size += len(a.Payload)
	}
	if len(set.Attachments) > 2*64 || len(set.Bundles) > 64 || size > 1<<20 || len(set.Problems) > 66 || asked > 3*256+4*64+16 {
		t.Errorf("%d attachments of %d bytes, %d bundles, %d problems, %d requests", len(set.Attachments), size, len(set.Bundles), len(set.Problems), asked)
	}
}

// Whatever a registry wants for authentication, and whatever its token server says,
// the login goes to no server in the clear, and the look-up ends in a typed refusal.
func FuzzToken(f *testing.F) {
	f.Add(`Bearer realm="https://auth.example/token",service="r",scope="repository:demo/app:pull"`, 200, []byte(`{"token":"t","access_token":"t","expires_in":60}`))
	f.Add(`Bearer realm="http://auth.example/token"`, 200, []byte(`{"token":"t"}`))
	f.Add(`Basic realm="r"`, 401, []byte(`{"errors":[]}`))
	f.Add(`Bearer realm="ftp://x/", Basic`, 404, []byte(`{"expires_in":-1}`))
	f.Add(`Bearer`, 500, []byte(`{"token":5}`))
	login := base64.StdEncoding.EncodeToString([]byte("user:secretsecret"))
	file := filepath.Join(f.TempDir(), "docker.json")
	write(f, file, `{"auths":{"registry.example":{"auth":"`+login+`"}}}`, 0o600)
	digest := testsign.Digest([]byte("image"))
	f.Fuzz(func(t *testing.T, challenge string, status int, token []byte) {
		transport := answers(func(req *http.Request) (int, http.Header, []byte) {
			body := []byte{}
			if req.Body != nil {
				body, _ = io.ReadAll(req.Body)
				req.Body.Close()
			}
			sent := req.Header.Get("Authorization") + string(body) + req.URL.String()
			if (strings.Contains(sent, login) || strings.Contains(sent, "secretsecret")) && req.URL.Scheme != "https" && !local(req.URL.Hostname()) {
				t.Errorf("%q: the login goes to %s", challenge, req.URL)
			}
			if strings.Contains(req.URL.Path, "/manifests/") || strings.Contains(req.URL.Path, "/referrers/") {
				return 401, http.Header{"Www-Authenticate": {challenge}}, nil
			}
			return max(min(status, 599), 200), nil, token
		})
		_, err := registry.New(registry.Config{Transport: transport, DockerConfig: file, Timeout: 10 * time.Second}).Fetch(t.Context(), fuzzed, digest, nil)
		refusal(t, err)
		if err == nil {
			t.Error("a registry that lets nobody in has evidence")
		} else if strings.Contains(err.Error(), "secretsecret") || strings.Contains(err.Error(), login) {
			t.Errorf("a secret is told: %v", err)
		}
	})
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Whatever hosts.toml says, a look-up ends in a typed refusal or finds nothing, and
// asks by HTTP or HTTPS alone.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{
		"server = \"https://other.example\"\n", "[host.\"http://mirror.example:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
		"server = \"https://a/v2/x\"\n[host.\"b\"]\n  override_path = true\n  [host.\"b\".header]\n    x = [\"y\"]\n",
		"server = 5", "[host]", "[host.\"ftp://x\"]", "[host.\"0\"]\n[host.\"\"]", "[host.\"httpx://x\"]", "[host.\"https://x\"]\n  capabilities = []\n  skip_verify = true\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if bytes.ContainsAny(content, "/\\") && (bytes.Contains(content, []byte("ca")) || bytes.Contains(content, []byte("client"))) {
			return // it would be any file of this machine, devices among them
		}
		dir := t.TempDir()
		write(t, filepath.Join(dir, "registry.example", "hosts.toml"), string(content), 0o600)
		transport := answers(func(req *http.Request) (int, http.Header, []byte) {
			if req.URL.Scheme != "https" && req.URL.Scheme != "http" {
				t.Errorf("%q: asked by %q", content, req.URL.Scheme)
			}
			return 404, nil, nil
		})
		set, err := registry.New(registry.Config{Transport: transport, CertsDir: dir, Timeout: 10 * time.Second}).Fetch(t.Context(), fuzzed, testsign.Digest([]byte("image")), nil)
		refusal(t, err)
		if !set.Empty() {
			t.Errorf("%q: evidence of nothing: %+v", content, set)
		}
	})
}
