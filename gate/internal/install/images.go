package install

import (
	"context"
	"fmt"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"countersign/gate/internal/reference"
)

// namespace is CRI's in containerd.
const namespace = "k8s.io"

// pinnedLabel keeps an image from being collected as garbage.
const pinnedLabel = "io.cri-containerd.pinned"

// images are those of a containerd.
type images struct{ socket string }

// digest gives what a name leads to, or "" where the store does not have it.
func (i images) digest(ctx context.Context, name string) (string, error) {
	image, err := i.get(ctx, name)
	return image.GetTarget().GetDigest(), err
}

func (i images) get(ctx context.Context, name string) (image *imagesapi.Image, err error) {
	err = i.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := imagesapi.NewImagesClient(conn).Get(ctx, &imagesapi.GetImageRequest{Name: name})
		if status.Code(err) == codes.NotFound {
			return nil
		}
		image = answer.GetImage()
		return err
	})
	return image, err
}

// name gives an image that the store has by another name this one too, so that nothing
// has to be pulled.
func (i images) name(ctx context.Context, from, to string) error {
	image, err := i.get(ctx, from)
	if err != nil || image == nil {
		return err
	}
	return i.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := imagesapi.NewImagesClient(conn).Create(ctx, &imagesapi.CreateImageRequest{Image: &imagesapi.Image{
			Name: to, Target: image.GetTarget(), Labels: map[string]string{pinnedLabel: "pinned"},
		}})
		if status.Code(err) == codes.AlreadyExists {
			return nil
		}
		return err
	})
}

// forget takes a name away again; the image stays under its others.
func (i images) forget(ctx context.Context, name string) error {
	return i.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := imagesapi.NewImagesClient(conn).Delete(ctx, &imagesapi.DeleteImageRequest{Name: name})
		if status.Code(err) == codes.NotFound {
			return nil
		}
		return err
	})
}

// pull pulls as a kubelet would.
func (i images) pull(ctx context.Context, name string) error {
	return i.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := runtimeapi.NewImageServiceClient(conn).PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: name}})
		return err
	})
}

// ready says whether CRI answers.
func (i images) ready(ctx context.Context) error {
	return i.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := runtimeapi.NewRuntimeServiceClient(conn).Version(ctx, &runtimeapi.VersionRequest{Version: "v1"})
		return err
	})
}

func (i images) call(ctx context.Context, what func(context.Context, *grpc.ClientConn) error) error {
	conn, err := grpc.NewClient("unix://"+i.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := what(namespaces.WithNamespace(ctx, namespace), conn); err != nil {
		s := status.Convert(err)
		return fmt.Errorf("the runtime at %s: %s: %s", i.socket, s.Code(), s.Message())
	}
	return nil
}

// sandboxByDigest gives the sandbox image as repository@digest, and the name that the
// node has it by. It is pulled where the node does not have it yet.
func (n *node) sandboxByDigest(ctx context.Context, setting, named string) (pin, name string, err error) {
	parsed, err := reference.Normalise(named)
	if err != nil {
		return "", "", fmt.Errorf("%s is %q in the runtime's configuration: %w", setting, named, err)
	}
	if parsed.Digest != "" {
		return parsed.Repository + "@" + parsed.Digest, "", nil
	}
	digest, err := n.store.digest(ctx, parsed.String())
	if err == nil && digest == "" && !n.Plan {
		if err = n.store.pull(ctx, parsed.String()); err == nil {
			digest, err = n.store.digest(ctx, parsed.String())
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("sandbox image %s: %w", named, err)
	}
	if digest == "" {
		return "", "", fmt.Errorf("the node does not have its sandbox image %s yet, so it cannot be pinned; pull it there: crictl pull %s", named, named)
	}
	return parsed.Repository + "@" + digest, parsed.String(), nil
}

// nameSandbox gives the sandbox image its name by digest.
func (n *node) nameSandbox(ctx context.Context) error {
	n.journal.Image, n.journal.Socket = n.sandbox, n.Socket
	if err := n.journal.save(); err != nil {
		return err
	}
	return n.store.name(ctx, n.sandboxNamed, n.sandbox)
}

// repositoryDigest asks over CRI what a name leads to, by a name of the same repository.
func (i images) repositoryDigest(ctx context.Context, name string) (digest string, err error) {
	parsed, err := reference.Normalise(name)
	if err != nil {
		return "", err
	}
	err = i.call(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		answer, err := runtimeapi.NewImageServiceClient(conn).ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
		for _, each := range answer.GetImage().GetRepoDigests() {
			if found, err := reference.Normalise(each); err == nil && found.Repository == parsed.Repository {
				digest = found.Digest
				return nil
			}
		}
		return err
	})
	return digest, err
}
