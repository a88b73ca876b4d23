// Package fakecontainerd is an in-process containerd for tests: the gRPC
// services that the gate asks, with whatever state a test gives them.
package fakecontainerd

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	contentapi "github.com/containerd/containerd/api/services/content/v1"
	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Namespace is the only one that the fake knows.
const Namespace = "k8s.io"

// Node is the state of the fake. A test changes it between requests only.
type Node struct {
	Address    string
	Containers map[string]*containersapi.Container
	Images     map[string]string             // record name -> target digest
	Blobs      map[string][]byte             // by digest
	Snapshots  map[string]*snapshotsapi.Info // by snapshotter/key
	Delay      time.Duration                 // of every answer
	Ended      map[string]bool               // containers that do not run any more
	Immortal   map[string]bool               // and those that cannot be stopped
	BaseSpec   string                        // of the runtime handler

	mu          sync.Mutex
	calls       map[string]int
	subscribers map[chan *types.Envelope]bool
}

// Start serves a new, empty node until the test ends.
func Start(t testing.TB) *Node {
	t.Helper()
	n := &Node{
		Address:    filepath.Join(t.TempDir(), "containerd.sock"),
		Containers: map[string]*containersapi.Container{},
		Images:     map[string]string{},
		Blobs:      map[string][]byte{},
		Snapshots:  map[string]*snapshotsapi.Info{},
		Ended:      map[string]bool{},
		Immortal:   map[string]bool{},
		calls:      map[string]int{},

		subscribers: map[chan *types.Envelope]bool{},
	}
	listener, err := net.Listen("unix", n.Address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := n.enter(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handle(ctx, request)
		}),
		grpc.StreamInterceptor(func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := n.enter(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handle(service, stream)
		}))
	containersapi.RegisterContainersServer(server, &containersService{node: n})
	imagesapi.RegisterImagesServer(server, &imagesService{node: n})
	contentapi.RegisterContentServer(server, &contentService{node: n})
	snapshotsapi.RegisterSnapshotsServer(server, &snapshotsService{node: n})
	eventsapi.RegisterEventsServer(server, &eventsService{node: n})
	runtimeapi.RegisterRuntimeServiceServer(server, &runtimeService{node: n})
	runtimeapi.RegisterImageServiceServer(server, &criImages{node: n})
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return n
}

// Calls says how often a method was called, by the end of its name ("Content/Read").
func (n *Node) Calls(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for name, count := range n.calls {
		if strings.HasSuffix(name, method) {
			total += count
		}
	}
	return total
}

func (n *Node) enter(ctx context.Context, method string) error {
	n.mu.Lock()
	n.calls[method]++
	n.mu.Unlock()
	if strings.HasPrefix(method, "/runtime.v1.") {
		return nil // CRI knows no namespaces
	}
	if md, _ := metadata.FromIncomingContext(ctx); !slices.Equal(md.Get("containerd-namespace"), []string{Namespace}) {
		return status.Error(codes.FailedPrecondition, "namespace is required")
	}
	select {
	case <-time.After(n.Delay):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

type containersService struct {
	containersapi.UnimplementedContainersServer
	node *Node
}

func (s *containersService) Get(_ context.Context, r *containersapi.GetContainerRequest) (*containersapi.GetContainerResponse, error) {
	c, ok := s.node.Containers[r.ID]
	if !ok {
		return nil, status.Error(codes.NotFound, "container "+r.ID)
	}
	return &containersapi.GetContainerResponse{Container: c}, nil
}

var idFilter = regexp.MustCompile(`^id~=("\^[^"]*")`)

func (s *containersService) List(_ context.Context, r *containersapi.ListContainersRequest) (*containersapi.ListContainersResponse, error) {
	response := &containersapi.ListContainersResponse{}
	match := idFilter.FindStringSubmatch(r.Filters[0])
	if match == nil {
		return response, nil
	}
	text, err := strconv.Unquote(match[1])
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	pattern, err := regexp.Compile(text)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	for id, c := range s.node.Containers {
		if pattern.MatchString(id) {
			response.Containers = append(response.Containers, c)
		}
	}
	return response, nil
}

type imagesService struct {
	imagesapi.UnimplementedImagesServer
	node *Node
}

func (s *imagesService) Get(_ context.Context, r *imagesapi.GetImageRequest) (*imagesapi.GetImageResponse, error) {
	target, ok := s.node.Images[r.Name]
	if !ok {
		return nil, status.Error(codes.NotFound, "image "+r.Name)
	}
	return &imagesapi.GetImageResponse{Image: image(r.Name, target)}, nil
}

// List takes filters of the form name~="REGEXP" and nothing else.
func (s *imagesService) List(_ context.Context, r *imagesapi.ListImagesRequest) (*imagesapi.ListImagesResponse, error) {
	var quoted string
	if err := json.Unmarshal([]byte(strings.TrimPrefix(r.Filters[0], "name~=")), &quoted); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	pattern, err := regexp.Compile(quoted)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	response := &imagesapi.ListImagesResponse{}
	for name, target := range s.node.Images {
		if pattern.MatchString(name) {
			response.Images = append(response.Images, image(name, target))
		}
	}
	return response, nil
}

func image(name, target string) *imagesapi.Image {
	return &imagesapi.Image{Name: name, Target: &types.Descriptor{Digest: target}}
}

type contentService struct {
	contentapi.UnimplementedContentServer
	node *Node
}

// Read sends a blob in small parts, so that joining them is tested too.
func (s *contentService) Read(r *contentapi.ReadContentRequest, stream contentapi.Content_ReadServer) error {
	content, ok := s.node.Blobs[r.Digest]
	if !ok {
		return status.Error(codes.NotFound, "content "+r.Digest)
	}
	for part := range slices.Chunk(content, max(100, len(content)/8)) {
		if err := stream.Send(&contentapi.ReadContentResponse{Data: part}); err != nil {
			return err
		}
	}
	return nil
}

type snapshotsService struct {
	snapshotsapi.UnimplementedSnapshotsServer
	node *Node
}

func (s *snapshotsService) Stat(_ context.Context, r *snapshotsapi.StatSnapshotRequest) (*snapshotsapi.StatSnapshotResponse, error) {
	info, ok := s.node.Snapshots[r.Snapshotter+"/"+r.Key]
	if !ok {
		return nil, status.Error(codes.NotFound, "snapshot "+r.Key)
	}
	return &snapshotsapi.StatSnapshotResponse{Info: info}, nil
}

// anyJSON packs a document as containerd's typeurl does.
func anyJSON(t testing.TB, typeURL string, document any) *anypb.Any {
	t.Helper()
	value, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: typeURL, Value: value}
}
