// Package bind finds out, for containerd, what a container really runs: it binds
// the image name that the user wrote to the index, manifest, config and layers
// behind the container's snapshot. Everything is asked of containerd's own API;
// the OCI state that the hook saw is only compared with it. Nothing here trusts
// or judges an image: a binding comes before any rule.
//
// The steps are those of "The gate" in the design: name, record, snapshot, image
// volumes. See containerd's internal/cri for where each field comes from.
package bind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"countersign/gate/internal/code"
	"countersign/gate/internal/lru"
)

// Image is one image of a container, bound: each candidate is a manifest whose
// config and layers are the very ones that the container uses. There is nearly
// always one; an index may hold the same image twice (gzip and zstd layers).
type Image struct {
	Name       string // as the user wrote it
	Repository string // normalised; "" for names in ID form, which have no scope
	Volume     string // where the container mounts it; "" for the container's own image
	Candidates []Candidate

	// ByID says that the container names its image by ID, and that Name is one of
	// several by which the node has it.
	ByID bool

	// Beside has digests of the same image record that are beyond a bound: none of
	// them can allow the image, and one that is revoked still refuses it.
	Beside []string

	mount criMount // of a volume
}

// Candidate is a set of digests that belong together. Index is "" if the record
// leads to a manifest directly; Index and Manifest are "" if no image record is
// left (ID form only).
type Candidate struct {
	Index    string
	Manifest string
	Config   string
}

// Bound is what a container will run. Images holds its own image first, then its
// image volumes. After an error it holds what was known by then.
type Bound struct {
	Container string
	Pod       string // namespace/name, for people
	Images    []Image

	// Raw has the indexes and manifests of the candidates by digest, as far as they
	// were read just now and not remembered from before.
	Raw map[string][]byte
}

// Config says where containerd is, and what is acceptable there.
type Config struct {
	Address      string        // unix socket
	Namespace    string        // containerd namespace of CRI: k8s.io
	Snapshotters []string      // those whose layers containerd unpacks itself
	Timeout      time.Duration // for a whole binding; over it: RUNTIME_UNREACHABLE
}

// Binder asks one containerd. It is safe for any number of goroutines.
type Binder struct {
	config     Config
	conn       *grpc.ClientConn
	containers containersapi.ContainersClient
	images     imagesapi.ImagesClient
	content    contentapi.ContentClient
	snapshots  snapshotsapi.SnapshotsClient

	// By digest: content never changes under it.
	documents *lru.Cache[string, *Document]
	chains    *lru.Cache[string, digest.Digest]

	lastSnapshotter atomic.Pointer[string]     // a guess at the next container's
	lastTargets     *lru.Cache[string, string] // guesses at where image records lead
}

const (
	maxRemembered = 2048     // documents, chain IDs, and records
	maxDocuments  = 4 << 20  // bytes that the remembered documents hold
	maxRecvSize   = 16 << 20 // a container record holds the whole OCI spec
	maxReconnect  = 200 * time.Millisecond
)

// New makes a Binder. It connects when first asked, and again whenever
// containerd comes back.
func New(config Config) (*Binder, error) {
	conn, err := grpc.NewClient("unix://"+config.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnect},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxRecvSize), grpc.WaitForReady(true)))
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", config.Address, err)
	}
	b := &Binder{
		config:     config,
		conn:       conn,
		containers: containersapi.NewContainersClient(conn),
		images:     imagesapi.NewImagesClient(conn),
		content:    contentapi.NewContentClient(conn),
		snapshots:  snapshotsapi.NewSnapshotsClient(conn),
		documents:  lru.NewSized[string](maxRemembered, maxDocuments, (*Document).Size),
		chains:     lru.New[string, digest.Digest](maxRemembered),

		lastTargets: lru.New[string, string](maxRemembered),
	}
	b.lastSnapshotter.Store(&config.Snapshotters[0])
	return b, nil
}

// Connect starts connecting, so that the first container need not wait for it.
func (b *Binder) Connect() { b.conn.Connect() }

// Close ends the connection.
func (b *Binder) Close() error { return b.conn.Close() }

// within gives a context for one binding.
func (b *Binder) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", b.config.Namespace)
	return context.WithTimeout(ctx, b.config.Timeout)
}

// unreachable makes a refusal of an error of the connection or of containerd
// itself; a refusal passes unchanged.
func (b *Binder) unreachable(what string, err error) error {
	var refusal *code.Refusal
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	found := fmt.Sprintf("%s: containerd at %s: %s", what, b.config.Address, status.Convert(err).Message())
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		found = fmt.Sprintf("%s: containerd at %s gave no answer within %s", what, b.config.Address, b.config.Timeout)
	}
	return code.Refuse(code.RuntimeUnreachable, found, "an answer from containerd", "look at containerd's log, and at containerd.address in gate.json")
}

func isUnreachable(err error) bool {
	var refusal *code.Refusal
	return errors.As(err, &refusal) && refusal.Code == code.RuntimeUnreachable
}

func isNotFound(err error) bool { return status.Code(err) == codes.NotFound }

// listed says whether containerd itself unpacks the layers of a snapshotter.
func (b *Binder) listed(snapshotter string) error {
	if slices.Contains(b.config.Snapshotters, snapshotter) {
		return nil
	}
	return code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("snapshotter %q", snapshotter),
		fmt.Sprintf("one of %q, whose layers containerd unpacked itself", b.config.Snapshotters),
		"use one of them for this runtime handler, or list it under containerd.snapshotters in gate.json")
}
