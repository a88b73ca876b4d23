package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

const (
	maxManifest = 4 << 20   // bytes, of a manifest or index
	maxReferrer = 256 << 10 // bytes, of the manifest of a referrer
	maxBlob     = 1 << 20   // bytes, of a payload or bundle
	maxAttempts = 3         // of one request, for authentication
)

// manifestTypes are what a manifest request accepts.
var manifestTypes = strings.Join([]string{
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
}, ", ")

const indexType = "application/vnd.oci.image.index.v1+json"

// session is one look-up in one repository.
type session struct {
	registry string // as in the image name
	path     string // of the repository in it
	hosts    []docker.RegistryHost
	logins   credentials

	// auth has a lock for each host, held while its authorizer is used: containerd's
	// (2.4.2) reads a token's expiry while another request that fetches the token
	// writes it.
	auth map[string]*sync.Mutex
}

// response is a whole answer of status 200.
type response struct {
	body   []byte
	header http.Header
	url    *url.URL // that was asked
}

// ask is one question to the hosts of a registry.
type ask struct {
	path   string // below the repository, as in "manifests/latest"
	query  url.Values
	accept string
	limit  int64
	needs  docker.HostCapabilities
	// missing are statuses beside 404 that say that there is no such thing.
	missing []int
}

func (s *session) close() {
	for _, host := range s.hosts {
		host.Client.CloseIdleConnections()
	}
}

// manifest gets a manifest or index of at most limit bytes by tag or digest. One
// that is not there is no error.
func (s *session) manifest(ctx context.Context, tagOrDigest string, limit int64) (Manifest, bool, error) {
	q := ask{path: "manifests/" + tagOrDigest, accept: manifestTypes, limit: limit, needs: docker.HostCapabilityPull}
	want := tagOrDigest
	if reference.CheckDigest(tagOrDigest) != nil {
		want = ""
		q.needs |= docker.HostCapabilityResolve
	}
	r, found, err := s.get(ctx, q)
	if err != nil || !found {
		return Manifest{}, false, err
	}
	if want == "" {
		want = r.header.Get("Docker-Content-Digest")
	}
	m := Manifest{Digest: digestOf(r.body), MediaType: mediaType(r.header), Raw: r.body}
	if want != "" && m.Digest != want {
		return Manifest{}, false, s.tampered("manifest "+tagOrDigest, want, m.Digest)
	}
	return m, true, nil
}

// blob gets a blob of at most size bytes by its digest.
func (s *session) blob(ctx context.Context, digest string, size int64) ([]byte, error) {
	if err := reference.CheckDigest(digest); err != nil {
		return nil, malformed("blob: "+err.Error(), "a sha256 digest")
	}
	r, found, err := s.get(ctx, ask{path: "blobs/" + digest, accept: "*/*", limit: size, needs: docker.HostCapabilityPull})
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, code.Refuse(code.RegistryError, fmt.Sprintf("%s/%s lacks blob %s", s.registry, s.path, digest),
			"the content of a signature", "sign the image again")
	case digestOf(r.body) != digest:
		return nil, s.tampered("blob", digest, digestOf(r.body))
	}
	return r.body, nil
}

// get asks the hosts in order until one has it. What the last one has not is
// not there; else an error of any host is told, for it may have had it.
func (s *session) get(ctx context.Context, q ask) (response, bool, error) {
	var failure error
	asked := false
	for _, host := range s.hosts {
		if !host.Capabilities.Has(q.needs) {
			continue
		}
		asked = true
		r, found, err := s.getFrom(ctx, host, q)
		if found {
			return r, true, nil
		}
		failure = err
	}
	if !asked {
		failure = code.Refuse(code.RegistryError, "no host of "+s.registry+" may be asked for "+q.path,
			"a host with that capability in hosts.toml", "add it")
	}
	return response{}, false, failure
}

// getFrom asks one host, and says with a refusal for want of a login where that
// login is kept.
func (s *session) getFrom(ctx context.Context, host docker.RegistryHost, q ask) (response, bool, error) {
	r, found, err := s.exchange(ctx, host, q)
	var refusal *code.Refusal
	if errors.As(err, &refusal) && refusal.Code == code.RegistryAuth {
		if hint := s.logins.hint(atHost(host, s.path), s.registry+"/"+s.path); hint != "" {
			err = code.Refuse(refusal.Code, refusal.Found+"; "+hint, refusal.Expected, refusal.Do)
		}
	}
	return r, found, err
}

// exchange asks one host, and authenticates where it wants that.
func (s *session) exchange(ctx context.Context, host docker.RegistryHost, q ask) (response, bool, error) {
	target := s.url(host, q)
	ctx = docker.WithScope(ctx, "repository:"+s.path+":pull")
	var asked []*http.Response
	for range maxAttempts {
		resp, err := s.send(ctx, host, target, q.accept)
		if err != nil {
			return response{}, false, classify(host.Host, err)
		}
		if resp.StatusCode == http.StatusUnauthorized {
			resp.Body.Close()
			asked = append(asked, resp)
			if err := s.challenged(ctx, host, asked); err != nil {
				return response{}, false, unauthorised(host.Host, err.Error())
			}
			continue
		}
		defer resp.Body.Close()
		return read(resp, host.Host, q)
	}
	return response{}, false, unauthorised(host.Host, "401 Unauthorized, also with the gate's credentials")
}

func (s *session) url(host docker.RegistryHost, q ask) *url.URL {
	query := url.Values{}
	for key, values := range q.query {
		query[key] = values
	}
	// A mirror of several registries has to be told which one is meant.
	if host.Host != s.registry && (s.registry != "docker.io" || host.Host != "registry-1.docker.io") {
		query.Set("ns", s.registry)
	}
	return &url.URL{Scheme: host.Scheme, Host: host.Host, Path: host.Path + "/" + s.path + "/" + q.path, RawQuery: query.Encode()}
}

func (s *session) send(ctx context.Context, host docker.RegistryHost, target *url.URL, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range host.Header {
		req.Header[key] = values
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "countersign-gate")
	if err := s.authorize(ctx, host, req); err != nil {
		return nil, &authError{err}
	}
	return host.Client.Do(req)
}

func (s *session) authorize(ctx context.Context, host docker.RegistryHost, req *http.Request) error {
	lock := s.auth[host.Host]
	lock.Lock()
	defer lock.Unlock()
	return host.Authorizer.Authorize(ctx, req)
}

// challenged tells the authorizer what the host wants.
func (s *session) challenged(ctx context.Context, host docker.RegistryHost, asked []*http.Response) error {
	lock := s.auth[host.Host]
	lock.Lock()
	defer lock.Unlock()
	return host.Authorizer.AddResponses(ctx, asked)
}

func read(resp *http.Response, host string, q ask) (response, bool, error) {
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound:
		return response{}, false, nil
	case status == http.StatusForbidden:
		return response{}, false, unauthorised(host, resp.Status)
	case status != http.StatusOK:
		for _, missing := range q.missing {
			if status == missing {
				return response{}, false, nil
			}
		}
		return response{}, false, code.Refuse(code.RegistryError, host+" answered "+resp.Status,
			"200 or 404", "look into the registry's log")
	}
	if resp.ContentLength > q.limit {
		return response{}, false, tooLarge(host, q)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, q.limit+1))
	if err != nil && !errors.Is(err, errOverBound) {
		return response{}, false, classify(host, err)
	}
	if int64(len(body)) > q.limit || err != nil {
		return response{}, false, tooLarge(host, q)
	}
	return response{body: body, header: resp.Header, url: resp.Request.URL}, true, nil
}

func mediaType(header http.Header) string {
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.TrimSpace(media)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
