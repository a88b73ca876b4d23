package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"countersign/gate/internal/code"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	hostsconfig "github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

const (
	maxRedirects   = 5
	maxHeaderBytes = 64 << 10
	maxBody        = maxList + 1 // of any response that does not go to the disk: nothing larger is ever read
)

// complaint keeps what containerd's loader of hosts.toml says of a file that it cannot
// use: it logs that, and goes on to ask the registry directly.
type complaint struct{ err error }

// Levels implements logrus.Hook.
func (c *complaint) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

// Fire implements logrus.Hook.
func (c *complaint) Fire(entry *logrus.Entry) error {
	c.err = fmt.Errorf("%s: %v", entry.Message, entry.Data[logrus.ErrorKey])
	return nil
}

// logger gives a log that writes nothing: containerd's hints about hosts.toml come
// anew at each look-up.
func (c *complaint) logger() *logrus.Entry {
	logger := &logrus.Logger{Out: io.Discard, Formatter: new(logrus.TextFormatter), Level: logrus.ErrorLevel, Hooks: logrus.LevelHooks{}}
	logger.AddHook(c)
	return logrus.NewEntry(logger)
}

// hosts gives the places where registry may be asked for path, in order, as
// containerd would: mirrors, then the registry itself; and all transports that serve
// them.
func (c *Client) hosts(ctx context.Context, registry, path string, logins *logins) ([]docker.RegistryHost, []*guard, error) {
	var guards []*guard
	options := hostsconfig.HostOptions{
		Credentials: logins.of,
		UpdateClient: func(client *http.Client) error {
			if c.config.Transport != nil {
				client.Transport = c.config.Transport
			}
			guards = append(guards, guardClient(client))
			return nil
		},
	}
	if c.config.CertsDir != "" {
		options.HostDir = hostsconfig.HostDirFromRoot(c.config.CertsDir)
	}
	var unusable complaint
	hosts, err := hostsconfig.ConfigureHosts(log.WithLogger(ctx, unusable.logger()), options)(registry)
	if err = cmp.Or(err, unusable.err); err != nil {
		return nil, nil, code.Refuse(code.RegistryError, fmt.Sprintf("the settings for %s cannot be used: %v", registry, err),
			"a good hosts.toml in "+c.config.CertsDir, "correct it")
	}
	hosts = slices.DeleteFunc(hosts, func(h docker.RegistryHost) bool { return h.Host == "" || h.Scheme != "https" && h.Scheme != "http" }) // nobody can be asked there
	if len(hosts) == 0 {
		return nil, nil, code.Refuse(code.NoEvidenceOffline, "hosts.toml names no host for "+registry,
			"a host to ask", "add one in "+c.config.CertsDir)
	}
	for i, host := range slices.Backward(hosts) {
		if l := logins.add(host.Host, atHost(host, path)); l.bearer != "" {
			hosts[i].Authorizer = &bearerAuthorizer{token: l.bearer}
		}
	}
	return hosts, guards, nil
}

// atHost gives the name that a repository has at one of its registry's hosts,
// which may keep it below a path of its own.
func atHost(host docker.RegistryHost, path string) string {
	return host.Host + strings.TrimPrefix(host.Path, "/v2") + "/" + path
}

// guardClient bounds what any server can make the gate read or follow, also
// while it fetches a token. It gives the transport that it puts in place.
func guardClient(client *http.Client) *guard {
	if transport, ok := client.Transport.(*http.Transport); ok {
		transport.MaxResponseHeaderBytes = maxHeaderBytes
	}
	g := &guard{next: client.Transport}
	client.Transport, client.CheckRedirect = g, checkRedirect
	return g
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if req.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
		return errors.New("a redirect from https to " + req.URL.Scheme)
	}
	return nil
}

// guard is a transport that never sends credentials in the clear, and bounds
// every body.
type guard struct {
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	secret := req.Header.Get("Authorization") != "" || req.Method == http.MethodPost
	if secret && req.URL.Scheme != "https" && !loopback(req.URL) {
		return nil, &clearTextError{host: req.URL.Host}
	}
	resp, err := g.next.RoundTrip(req)
	if err == nil {
		left := int64(maxBody)
		if asked, ok := req.Context().Value(bodyLimit{}).(int64); ok {
			left = max(left, asked+1)
		}
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: left}
	}
	return resp, err
}

// CloseIdleConnections ends the connections that nothing uses.
func (g *guard) CloseIdleConnections() {
	if closer, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// bodyLimit is the key of a request's own bound, where that is larger than maxBody.
type bodyLimit struct{}

type clearTextError struct{ host string }

func (e *clearTextError) Error() string {
	return "credentials for " + e.host + " would go over plain HTTP"
}

func loopback(u *url.URL) bool {
	if u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

var errOverBound = errors.New("the answer is over its bound")

// boundedBody fails, rather than ends, where a body goes over its bound.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		n, err := b.ReadCloser.Read(make([]byte, 1))
		if n > 0 {
			err = errOverBound
		}
		return 0, err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
