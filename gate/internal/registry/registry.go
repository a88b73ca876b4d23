// Package registry asks OCI registries for signatures, within bounds, and with
// the gate's own credentials. Mirrors, CAs and plain HTTP come from containerd's
// certs.d, read by containerd's own code.
//
// Nothing that a registry says is trusted: what has a digest is checked against
// it, and signatures are for package judge to verify.
package registry

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/provider"
	"countersign/gate/internal/reference"
)

// Config says how registries are reached.
type Config struct {
	CertsDir     string                     // certs.d: <host>/hosts.toml as containerd reads it; "" for none
	DockerConfig string                     // a Docker config.json or containers-auth.json that only its owner can read; "" for none
	Providers    *provider.Providers        // the kubelet's credential providers, for what the Docker config does not have; nil for none
	Transport    http.RoundTripper          // answers instead of the network; nil for the network
	Timeout      time.Duration              // of one whole look-up; 0 means 3 s
	Spool        string                     // folder for attestations that are too large to be held in memory; "" for none
	LookedUp     func(time.Duration, error) // is told of each look-up; nil for nobody
}

// Client is a registry client. It reads the files of its Config anew for each
// look-up, and keeps no connection, token or failure from one to the next, only where
// signatures were; what credential providers answer, they remember themselves.
type Client struct {
	config Config
	habits *habits
}

// New makes a client.
func New(config Config) *Client {
	if config.Timeout == 0 {
		config.Timeout = 3 * time.Second
	}
	if config.LookedUp == nil {
		config.LookedUp = func(time.Duration, error) {}
	}
	return &Client{config: config, habits: newHabits()}
}

// Manifest is a raw manifest or index.
type Manifest struct {
	Digest    string // sha256:<hex> of Raw
	MediaType string // as the registry gave it
	Raw       []byte
}

// Manifest gets a manifest or index by tag or digest (OCI distribution spec,
// "Pulling manifests"). The error is a *code.Refusal; a manifest that is not
// there is REGISTRY_ERROR.
func (c *Client) Manifest(ctx context.Context, repository, tagOrDigest string) (_ Manifest, err error) {
	began := time.Now()
	defer func() { c.config.LookedUp(time.Since(began), err) }()
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	s, err := c.open(ctx, repository)
	if err != nil {
		return Manifest{}, err
	}
	defer s.close()
	manifest, found, err := s.manifest(ctx, tagOrDigest, maxManifest)
	if err == nil && !found {
		err = code.Refuse(code.RegistryError, fmt.Sprintf("%s has no %s", repository, tagOrDigest),
			"an image", "check the reference, or push the image")
	}
	return manifest, err
}

// open makes a session for one look-up in one repository.
func (c *Client) open(ctx context.Context, repository string) (*session, error) {
	if err := reference.CheckRepository(repository); err != nil {
		return nil, code.Refuse(code.BadReference, err.Error(), "registry/path", "correct the image name")
	}
	registry, path := reference.Split(repository)
	file, err := loadCredentials(c.config.DockerConfig)
	if err != nil {
		return nil, err
	}
	logins := &logins{file: file, providers: c.config.Providers, image: repository, byHost: map[string]*account{}}
	hosts, guards, err := c.hosts(ctx, registry, path, logins)
	if err != nil {
		return nil, err
	}
	locks := map[string]*sync.Mutex{}
	for _, host := range hosts {
		locks[host.Host] = new(sync.Mutex)
	}
	return &session{registry: registry, path: path, hosts: hosts, guards: guards, logins: logins, auth: locks}, nil
}
