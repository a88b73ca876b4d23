package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

const (
	maxManifest = 4 << 20   // bytes, of a manifest or index
	maxBlob     = 256 << 10 // bytes, of a payload or bundle
	maxAttempts = 3         // of one request, for authentication

	// patience is how long a host is waited for before the next is asked too.
	patience = 250 * time.Millisecond
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
	guards   []*guard // all transports of the hosts' clients
	logins   *logins

	// auth has a lock for each host, held while its authorizer is used: containerd's
	// (2.4.2) reads a token's expiry while another request that fetches the token
	// writes it.
	auth map[string]*sync.Mutex
}

// query is one question to the hosts of a registry.
type query struct {
	path   string // below the repository, as in "manifests/latest"
	query  url.Values
	accept string
	limit  int64
	needs  docker.HostCapabilities
	// missing are statuses beside 404 that say that there is no such thing.
	missing []int
	// media is the only type of an answer that counts; any other says that there is
	// no such thing. "" for any.
	media string
	// digest is what the body must have, or else that of another host counts; "" for any.
	digest string
	// consume reads the body as it comes; nil for a body that is kept.
	consume func(io.Reader) error
}

// close ends the session's connections. It asks the transports themselves: what
// containerd puts around them, for loopback hosts and others, does not pass that on.
func (s *session) close() {
	for _, g := range s.guards {
		g.CloseIdleConnections()
	}
}

// manifest gets a manifest or index of at most limit bytes by tag or digest. One
// that is not there is not an error.
func (s *session) manifest(ctx context.Context, tagOrDigest string, limit int64) (Manifest, bool, error) {
	q := query{path: "manifests/" + tagOrDigest, accept: manifestTypes, limit: limit, needs: docker.HostCapabilityPull}
	if reference.CheckDigest(tagOrDigest) == nil {
		q.digest = tagOrDigest
	} else {
		q.needs |= docker.HostCapabilityResolve
	}
	r, found, err := s.get(ctx, q)
	if err != nil || !found {
		return Manifest{}, false, err
	}
	m := Manifest{Digest: r.digest, MediaType: mediaType(r.header), Raw: r.body}
	want := r.header.Get("Docker-Content-Digest")
	if q.digest != "" || want == "" || m.Digest == want {
		return m, true, nil
	}
	if reference.CheckDigest(want) != nil { // of another algorithm, or none: nothing to compare with
		return Manifest{}, false, code.Refuse(code.RegistryError, fmt.Sprintf("%s/%s: manifest %s has the digest %.200q", s.registry, s.path, tagOrDigest, want),
			"a sha256 digest in Docker-Content-Digest", "look into the registry's log")
	}
	return Manifest{}, false, s.tampered("manifest "+tagOrDigest, want, m.Digest)
}

// blob gets a blob of at most size bytes by its digest.
func (s *session) blob(ctx context.Context, digest string, size int64) ([]byte, error) {
	if err := reference.CheckDigest(digest); err != nil {
		return nil, malformed("blob: "+err.Error(), "a sha256 digest")
	}
	r, found, err := s.get(ctx, query{path: "blobs/" + digest, accept: "*/*", limit: size, needs: docker.HostCapabilityPull, digest: digest})
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, code.Refuse(code.RegistryError, fmt.Sprintf("%s/%s lacks blob %s", s.registry, s.path, digest),
			"the content of a signature", "sign the image again")
	}
	return r.body, nil
}

// from gives the same session with another host first.
func (s *session) from(i int) *session {
	other := *s
	other.hosts = slices.Concat(s.hosts[i:i+1], s.hosts[:i], s.hosts[i+1:])
	return &other
}

// askable refuses a registry none of whose hosts may be asked for a tag.
func (s *session) askable() error {
	const needs = docker.HostCapabilityPull | docker.HostCapabilityResolve
	if slices.ContainsFunc(s.hosts, func(h docker.RegistryHost) bool { return h.Capabilities.Has(needs) }) {
		return nil
	}
	return s.noHost("tags")
}

func (s *session) noHost(what string) error {
	return code.Refuse(code.RegistryError, "no host of "+s.registry+" may be asked for "+what,
		"a host with that capability in hosts.toml", "add it")
}

// get asks the hosts in order until one has it, the next as soon as one has it not,
// or is slow. Where none has it, the error of any is told, for it may have had it.
func (s *session) get(ctx context.Context, q query) (response, bool, error) {
	hosts := slices.DeleteFunc(slices.Clone(s.hosts), func(h docker.RegistryHost) bool { return !h.Capabilities.Has(q.needs) })
	if len(hosts) == 0 {
		return response{}, false, s.noHost(q.path)
	}
	type answer struct {
		response
		found bool
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(hosts))
	var failure error
	next := time.NewTimer(0)
	defer next.Stop()
	for asked, answered := 0, 0; answered < len(hosts); {
		select {
		case <-next.C:
			if asked == len(hosts) {
				continue
			}
			host := hosts[asked]
			asked++
			go func() {
				r, found, err := s.getFrom(ctx, host, q)
				if found && q.digest != "" && r.digest != q.digest {
					found, err = false, s.tampered(q.path, q.digest, r.digest)
				}
				answers <- answer{r, found, err}
			}()
			next.Reset(patience)
		case a := <-answers:
			answered++
			if a.found {
				return a.response, true, nil
			}
			failure = cmp.Or(failure, a.err)
			next.Reset(0)
		}
	}
	return response{}, false, failure
}

// getFrom asks one host, and says with a refusal for want of a login where that
// login is kept.
func (s *session) getFrom(ctx context.Context, host docker.RegistryHost, q query) (response, bool, error) {
	r, found, err := s.exchange(ctx, host, q)
	var refusal *code.Refusal
	if errors.As(err, &refusal) && refusal.Code == code.RegistryAuth {
		if hint := s.logins.hint(host.Host); hint != "" {
			err = code.Refuse(refusal.Code, refusal.Found+"; "+hint, refusal.Expected, refusal.Do)
		}
	}
	return r, found, err
}

// exchange asks one host, and authenticates where it wants that.
func (s *session) exchange(ctx context.Context, host docker.RegistryHost, q query) (response, bool, error) {
	target := s.url(host, q)
	ctx = docker.WithScope(ctx, "repository:"+s.path+":pull")
	var asked []*http.Response
	for range maxAttempts {
		resp, err := s.send(ctx, host, target, q)
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
		return read(ctx, resp, host.Host, q)
	}
	return response{}, false, unauthorised(host.Host, "401 Unauthorized, also with the gate's credentials")
}

func (s *session) url(host docker.RegistryHost, q query) *url.URL {
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

func (s *session) send(ctx context.Context, host docker.RegistryHost, target *url.URL, q query) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range host.Header {
		req.Header[key] = values
	}
	req.Header.Set("Accept", q.accept)
	req.Header.Set("User-Agent", "countersign-gate")
	if err := s.authorize(ctx, host, req); err != nil {
		return nil, &authError{err}
	}
	if q.consume != nil { // what is not kept in memory; the token before was
		req = req.WithContext(context.WithValue(ctx, bodyLimit{}, q.limit))
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
	s.logins.want(ctx, host.Host) // before the lock: it may take a program's time
	lock := s.auth[host.Host]
	lock.Lock()
	defer lock.Unlock()
	return host.Authorizer.AddResponses(ctx, asked)
}
