package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/reference"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"golang.org/x/sync/semaphore"
)

// What of large attestations is read, per digest and host.
const (
	maxLarge      = 4
	maxLargeBytes = 48 << 20
)

// spooling is how many large attestations all look-ups together read at a time.
var spooling = semaphore.NewWeighted(2)

// apart tells layers that go into memory from those that go to the disk, if any are
// wanted.
func (f *fetch) apart(layers []descriptor) (small, large []descriptor) {
	for _, layer := range layers {
		if len(f.types) > 0 && layer.Size > maxBlob {
			large = append(large, layer)
		} else {
			small = append(small, layer)
		}
	}
	return small, large
}

// keepLarge reads large attestations into the spool, one after the other. Around gives
// what goes before and after the content to make it a bundle; nil for nothing.
func (f *fetch) keepLarge(ctx context.Context, layers []descriptor, around func(map[string]string) (before, after []byte, err error)) {
	left := int64(maxLargeBytes)
	for i, layer := range layers {
		if f.spool == "" || i >= maxLarge || layer.Size > min(evidence.MaxLarge, left) {
			f.found(tooLargeToRead(f.digest, layer))
			continue
		}
		left -= layer.Size
		large, err := f.spoolOne(ctx, layer, around)
		if err != nil {
			f.found(err)
			continue
		}
		f.mu.Lock()
		f.large = append(f.large, large)
		f.mu.Unlock()
	}
}

func tooLargeToRead(digest string, layer descriptor) error {
	return code.Refuse(code.NoAttestation, fmt.Sprintf("%s: the attestation %.80q is too large: %d bytes", digest, layer.Digest, layer.Size),
		fmt.Sprintf("at most %d, %d of them, and %d together", evidence.MaxLarge, maxLarge, maxLargeBytes), "attest less")
}

func (f *fetch) spoolOne(ctx context.Context, layer descriptor, around func(map[string]string) (before, after []byte, err error)) (large evidence.Large, err error) {
	if err := reference.CheckDigest(layer.Digest); err != nil {
		return large, malformed("blob: "+bounded.Text(err.Error(), 200), "a sha256 digest")
	}
	var before, after []byte
	if around != nil {
		annotations, err := bounded.Strings(layer.Annotations, maxAnnotations)
		if err == nil {
			before, after, err = around(annotations)
		}
		if err != nil {
			return large, malformed(fmt.Sprintf("the annotations of attestation %s: %s", layer.Digest, bounded.Text(err.Error(), 300)), "what cosign puts there")
		}
	}
	if err := spooling.Acquire(ctx, 1); err != nil {
		return large, classify(f.hosts[0].Host, err)
	}
	defer spooling.Release(1)
	file, err := os.CreateTemp(f.spool, "large-*")
	if err != nil {
		return large, code.Refuse(code.RegistryError, "a large attestation cannot be kept: "+err.Error(), "a folder that can be written to", "make room")
	}
	defer func() {
		file.Close()
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	sum := sha256.New()
	to := io.MultiWriter(file, sum)
	q := query{path: "blobs/" + layer.Digest, accept: "*/*", limit: layer.Size, needs: docker.HostCapabilityPull, consume: func(body io.Reader) error {
		return writeAll(to, before, body, after)
	}}
	r, found, err := f.getFrom(ctx, f.hosts[0], q)
	switch {
	case err != nil:
		return large, err
	case !found:
		return large, code.Refuse(code.RegistryError, fmt.Sprintf("%s/%s lacks blob %s", f.registry, f.path, layer.Digest), "the content of an attestation", "attest the image again")
	case r.digest != layer.Digest:
		return large, f.tampered(q.path, layer.Digest, r.digest)
	}
	info, err := file.Stat()
	if err != nil {
		return large, err
	}
	return evidence.Large{Sum: hex.EncodeToString(sum.Sum(nil)), Size: info.Size(), Path: file.Name()}, nil
}

func writeAll(to io.Writer, before []byte, body io.Reader, after []byte) error {
	if _, err := to.Write(before); err != nil {
		return err
	}
	if _, err := io.Copy(to, body); err != nil {
		return err
	}
	_, err := to.Write(after)
	return err
}
