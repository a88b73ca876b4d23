package bind

import (
	"context"
	"fmt"
	"sync"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

// session is one binding. It asks containerd each question once at most, and can
// ask ahead what it will most likely need: a question is known by all that it
// asks, so a wrong guess costs an answer that nobody reads, and no more.
type session struct {
	*Binder
	mu        sync.Mutex
	records   map[string]func() (*record, error)
	snapshots map[[2]string]func() (*snapshotsapi.Info, error)
	documents map[string]func() (*Document, error)
	chains    map[string]func() (digest.Digest, error)
	raw       map[string][]byte // documents that were read and not remembered, by digest
}

// maxAhead bounds how many manifests of one index are asked for ahead: an image for
// many platforms has an attestation beside each.
const maxAhead = 32

func (b *Binder) session() *session {
	return &session{
		Binder:    b,
		records:   map[string]func() (*record, error){},
		snapshots: map[[2]string]func() (*snapshotsapi.Info, error){},
		documents: map[string]func() (*Document, error){},
		chains:    map[string]func() (digest.Digest, error){},
		raw:       map[string][]byte{},
	}
}

// prefetch reads the record of the annotated name with all that it leads to,
// and for the snapshot that CRI names after the container, while the container's
// own record is on its way. Whoever needs an answer asks again, and sees the error.
func (s *session) prefetch(ctx context.Context, state *State) {
	go func() { _, _ = s.stat(ctx, *s.lastSnapshotter.Load(), state.ID) }()
	name, err := reference.Normalise(state.Image())
	if err != nil || name.IDForm {
		return
	}
	if target, ok := s.lastTargets.Get(name.String()); ok {
		go s.readAhead(ctx, target)
	}
	go func() {
		if own, err := s.record(ctx, name.String()); err == nil {
			s.lastTargets.Put(own.name, own.target)
			s.readAhead(ctx, own.target)
		}
	}()
}

// readAhead reads an index with its manifests, or a manifest, and their configs.
func (s *session) readAhead(ctx context.Context, target string) {
	top, err := s.document(ctx, target)
	if err != nil {
		return
	}
	if !top.IsIndex {
		_, _ = s.chainOf(ctx, top.Config)
		return
	}
	for _, child := range top.Children[:min(len(top.Children), maxAhead)] {
		go func() {
			if d, err := s.document(ctx, child.Digest.String()); err == nil && !d.IsIndex {
				_, _ = s.chainOf(ctx, d.Config)
			}
		}()
	}
}

// document gives an index or a manifest, from memory or from the content store.
// What is absent is so for one session only: a later pull may bring it.
func (s *session) document(ctx context.Context, dgst string) (*Document, error) {
	return once(&s.mu, s.documents, dgst, func() (*Document, error) {
		if d, ok := s.Binder.documents.Get(dgst); ok {
			return d, nil
		}
		content, err := s.read(ctx, dgst)
		if err != nil {
			return nil, err
		}
		d, err := ParseDocument(dgst, content)
		if err == nil {
			s.Binder.documents.Put(dgst, d)
			s.mu.Lock()
			s.raw[dgst] = content
			s.mu.Unlock()
		}
		return d, err
	})
}

// rawOf gives what this session has read of the candidates' indexes and manifests.
func (s *session) rawOf(images []Image) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw := map[string][]byte{}
	for _, image := range images {
		for _, c := range image.Candidates {
			for _, dgst := range []string{c.Index, c.Manifest} {
				if content, ok := s.raw[dgst]; ok {
					raw[dgst] = content
				}
			}
		}
	}
	return raw
}

// chainOf reads a config and gives the chain ID of its layers.
func (s *session) chainOf(ctx context.Context, config string) (digest.Digest, error) {
	return once(&s.mu, s.chains, config, func() (digest.Digest, error) { return s.Binder.chainOf(ctx, config) })
}

// record asks for an image record. The error is that of the call.
func (s *session) record(ctx context.Context, name string) (*record, error) {
	return once(&s.mu, s.records, name, func() (*record, error) {
		response, err := s.images.Get(ctx, &imagesapi.GetImageRequest{Name: name})
		if err != nil {
			return nil, err
		}
		return &record{response.GetImage().GetName(), response.GetImage().GetTarget().GetDigest()}, nil
	})
}

// stat asks a snapshotter for a snapshot. The error is a *code.Refusal.
func (s *session) stat(ctx context.Context, snapshotter, key string) (*snapshotsapi.Info, error) {
	return once(&s.mu, s.snapshots, [2]string{snapshotter, key}, func() (*snapshotsapi.Info, error) {
		response, err := s.Binder.snapshots.Stat(ctx, &snapshotsapi.StatSnapshotRequest{Snapshotter: snapshotter, Key: key})
		if isNotFound(err) {
			return nil, code.Refuse(code.NotWhatRuns, fmt.Sprintf("snapshotter %s has no snapshot %s", snapshotter, key),
				"the snapshot that the container was made with", "create the container anew")
		}
		if err != nil {
			return nil, s.unreachable("snapshot "+key, err)
		}
		return response.GetInfo(), nil
	})
}

// once runs call for the first caller with a key; the others wait for its answer.
func once[K comparable, V any](mu *sync.Mutex, calls map[K]func() (V, error), key K, call func() (V, error)) (V, error) {
	mu.Lock()
	answer, ok := calls[key]
	if !ok {
		answer = sync.OnceValues(call)
		calls[key] = answer
	}
	mu.Unlock()
	return answer()
}
