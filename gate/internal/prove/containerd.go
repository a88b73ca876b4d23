package prove

import (
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// lease keeps containerd's garbage collector from what is not yet an image.
const lease = "countersign-proof"

// chunk is how much is written at once.
const chunk = 1 << 20

// containerd brings the canary in as "ctr image import" would: past CRI, and so past
// every check at pull.
type containerd struct {
	namespace string
	content   contentapi.ContentClient
	images    imagesapi.ImagesClient
	leases    leasesapi.LeasesClient
}

func newContainerd(conn *grpc.ClientConn, namespace string) *containerd {
	return &containerd{namespace: namespace, content: contentapi.NewContentClient(conn), images: imagesapi.NewImagesClient(conn), leases: leasesapi.NewLeasesClient(conn)}
}

// bringIn puts an image into the store under the canary's name.
func (c *containerd) bringIn(ctx context.Context, of *image) error {
	ctx = namespaces.WithNamespace(ctx, c.namespace)
	expires := map[string]string{"containerd.io/gc.expire": time.Now().Add(lives).UTC().Format(time.RFC3339)}
	if _, err := c.leases.Create(ctx, &leasesapi.CreateRequest{ID: lease, Labels: expires}); err != nil {
		return said("Leases.Create", err)
	}
	leased := leases.WithLease(ctx, lease)
	references := map[string]string{}
	for i, part := range of.parts {
		if err := c.write(leased, part, nil); err != nil {
			return err
		}
		references["containerd.io/gc.ref.content."+strconv.Itoa(i)] = part.descriptor.Digest.String()
	}
	if err := c.write(leased, of.manifest, references); err != nil {
		return err
	}
	d := of.manifest.descriptor
	_, err := c.images.Create(leased, &imagesapi.CreateImageRequest{Image: &imagesapi.Image{
		Name: Reference, Target: &types.Descriptor{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size},
	}})
	if status.Code(err) == codes.AlreadyExists { // for the pull was not refused
		return nil
	}
	return said("Images.Create", err)
}

// write puts a blob into the content store; one that is there already is as good.
func (c *containerd) write(ctx context.Context, part blob, labels map[string]string) error {
	ctx, cancel := context.WithCancel(ctx) // also ends a stream that is left
	defer cancel()
	stream, err := c.content.Write(ctx)
	if err != nil {
		return said("Content.Write", err)
	}
	request := &contentapi.WriteContentRequest{
		Action: contentapi.WriteAction_WRITE, Ref: lease + "-" + part.descriptor.Digest.String(),
		Total: part.descriptor.Size, Expected: part.descriptor.Digest.String(), Labels: labels,
	}
	send := func() error {
		if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) { // which Recv explains
			return err
		}
		_, err := stream.Recv()
		return err
	}
	for request.Data = range slices.Chunk(part.content, chunk) {
		if err = send(); err != nil {
			break
		}
		request.Offset += int64(len(request.Data))
	}
	request.Action, request.Data = contentapi.WriteAction_COMMIT, nil
	if err == nil {
		err = send()
	}
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return said("Content.Write", err)
}

// forget removes the records of the canary's registry of which CRI does not know yet,
// and the lease; with the last of them, containerd collects what they kept.
func (c *containerd) forget(ctx context.Context) error {
	ctx = namespaces.WithNamespace(ctx, c.namespace)
	filter := "name~=" + strconv.Quote("^"+regexp.QuoteMeta(Registry)+"/")
	found, err := c.images.List(ctx, &imagesapi.ListImagesRequest{Filters: []string{filter}})
	if err != nil {
		return said("Images.List", err)
	}
	for _, one := range found.GetImages() {
		if _, err := c.images.Delete(ctx, &imagesapi.DeleteImageRequest{Name: one.GetName(), Sync: true}); err != nil && status.Code(err) != codes.NotFound {
			return said("Images.Delete", err)
		}
	}
	if _, err := c.leases.Delete(ctx, &leasesapi.DeleteRequest{ID: lease, Sync: true}); err != nil && status.Code(err) != codes.NotFound {
		return said("Leases.Delete", err)
	}
	return nil
}
