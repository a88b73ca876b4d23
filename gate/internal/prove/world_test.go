package prove

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// start is what the fake is asked to start.
type start struct{ image, handler, program string }

// node is a fake of a runtime with a gate, over real sockets.
type node struct {
	gate     *config.Config
	handlers []string
	pull     func(name string) error // what a pull comes to
	start    func(start) error       // what a start comes to
	sandbox  func(handler string) error
	busy     bool // the removal of a pod fails, once

	mu      sync.Mutex
	images  map[string]string // name -> ID
	pods    map[string]string // ID -> handler
	blobs   map[string][]byte
	leases  map[string]bool
	started []start
}

// newNode starts a containerd whose gate refuses the canary and allows all else.
func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{
		gate: &config.Config{
			Policy: filepath.Join(dir, "policy.json"), Socket: filepath.Join(dir, "gate.sock"),
			Containerd: config.Containerd{Address: filepath.Join(dir, "cri.sock"), Namespace: "k8s.io", Hook: filepath.Join(dir, "hook")},
			Registry:   config.Registry{CertsDir: filepath.Join(dir, "certs.d")},
		},
		handlers: []string{"", "runc", "kata"},
		pull:     func(name string) error { return refuse(name, code.Unsigned) },
		sandbox:  func(string) error { return nil },
		images:   map[string]string{}, pods: map[string]string{}, blobs: map[string][]byte{}, leases: map[string]bool{},
	}
	n.start = func(s start) error {
		if ours(s.image) {
			return refuse(s.image, code.Unsigned)
		}
		return nil
	}
	if err := os.WriteFile(n.gate.Containerd.Hook, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.policy(t, map[string]any{"registry.example/signed": map[string]any{"anyOf": []string{"team"}}, "registry.example/open": map[string]any{"accept": true}})
	n.serve(t)
	return n
}

// asCrio makes the runtime a CRI-O, whose own engine refuses a pull of what it should.
func (n *node) asCrio() {
	n.gate.Crio = &config.Crio{Socket: n.gate.Containerd.Address, Hook: n.gate.Containerd.Hook}
	n.pull = func(name string) error {
		if strings.HasPrefix(name, Refused) {
			return errors.New("SignatureValidationFailed: Source image rejected: A signature was required, but no signature exists")
		}
		return nil
	}
}

const pinnedDigest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func (n *node) policy(t *testing.T, scopes map[string]any) {
	t.Helper()
	key := "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPjPW7Jtj7o4Jdfr871//TCnwB4T+\ngI3frLaOTo7ETG/NJZzQPnPwPrBql5OdEyPzcIH4qCMWePK54jCMoCf+jA==\n-----END PUBLIC KEY-----\n"
	document, err := json.Marshal(map[string]any{
		"version": "countersign.policy/v1", "scopes": scopes, "pinned": []string{"registry.example/pause@" + pinnedDigest},
		"roots":   map[string]any{"team": map[string]any{"publicKey": map[string]any{"keys": []string{key}}}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
	if err == nil {
		err = os.WriteFile(n.gate.Policy, document, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func refuse(name string, c code.Code) error {
	return fmt.Errorf("failed to create containerd task: error running createRuntime hook: countersign: refused %s: %s: found; expected; do", name, c)
}

func (n *node) serve(t *testing.T) {
	t.Helper()
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, &runtimeService{node: n})
	runtimeapi.RegisterImageServiceServer(server, &imageService{node: n})
	contentapi.RegisterContentServer(server, &contentService{node: n})
	imagesapi.RegisterImagesServer(server, &recordService{node: n})
	leasesapi.RegisterLeasesServer(server, &leaseService{node: n})
	cri := listen(t, n.gate.Containerd.Address)
	go func() { _ = server.Serve(cri) }() // ends with Stop
	t.Cleanup(server.Stop)
	socket := listen(t, n.gate.Socket)
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			_, _, err = wire.ReadRequest(conn)
			err = errors.Join(err, wire.WriteResponse(conn, &verdict.Verdict{Allow: true, Code: code.OK, Message: "serves", Policy: "sha256:in-force", Serial: 7}), conn.Close())
			if err != nil {
				t.Error(err)
			}
		}
	}()
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// run has a proof made on the node.
func (n *node) run(t *testing.T, c Config) (*Receipt, error) {
	t.Helper()
	c.Gate, c.Version = n.gate, "v1"
	c.listen = func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	return Run(t.Context(), c)
}

func (n *node) proven(t *testing.T, c Config) *Receipt {
	t.Helper()
	receipt, err := n.run(t, c)
	if err != nil {
		t.Fatal(err)
	}
	n.clean(t)
	return receipt
}

// clean says whether a proof left something.
func (n *node) clean(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.images {
		if ours(name) {
			t.Errorf("the image %s is left", name)
		}
	}
	if len(n.pods) > 0 || len(n.leases) > 0 {
		t.Errorf("pods %v and leases %v are left", n.pods, n.leases)
	}
}

type runtimeService struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	node *node
}

func (s *runtimeService) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{RuntimeName: "containerd", RuntimeVersion: "v2.4.2"}, nil
}

func (s *runtimeService) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	answer := &runtimeapi.StatusResponse{}
	for _, name := range s.node.handlers {
		answer.RuntimeHandlers = append(answer.RuntimeHandlers, &runtimeapi.RuntimeHandler{Name: name})
	}
	return answer, nil
}

func (s *runtimeService) RunPodSandbox(_ context.Context, r *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if err := s.node.sandbox(r.GetRuntimeHandler()); err != nil {
		return nil, err
	}
	s.node.pods[r.GetConfig().GetMetadata().GetUid()] = r.GetRuntimeHandler()
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: r.GetConfig().GetMetadata().GetUid()}, nil
}

func (s *runtimeService) CreateContainer(_ context.Context, r *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	name := r.GetConfig().GetImage().GetUserSpecifiedImage()
	if s.node.images[name] != r.GetConfig().GetImage().GetImage() {
		return nil, status.Error(codes.NotFound, "no image "+name)
	}
	one := start{image: name, handler: s.node.pods[r.GetPodSandboxId()]}
	for _, mount := range r.GetConfig().GetMounts() {
		one.program = mount.GetHostPath()
	}
	if err := s.node.start(one); err != nil {
		return nil, err
	}
	s.node.started = append(s.node.started, one)
	return &runtimeapi.CreateContainerResponse{ContainerId: "container"}, nil
}

func (s *runtimeService) StartContainer(context.Context, *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	return &runtimeapi.StartContainerResponse{}, nil
}

func (s *runtimeService) ListPodSandbox(_ context.Context, r *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if r.GetFilter().GetLabelSelector()[mark] == "" {
		return nil, status.Error(codes.InvalidArgument, "every pod of the node was asked for")
	}
	answer := &runtimeapi.ListPodSandboxResponse{}
	for id := range s.node.pods {
		answer.Items = append(answer.Items, &runtimeapi.PodSandbox{Id: id})
	}
	return answer, nil
}

func (s *runtimeService) StopPodSandbox(context.Context, *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (s *runtimeService) RemovePodSandbox(_ context.Context, r *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if s.node.busy {
		s.node.busy = false
		return nil, status.Error(codes.Unavailable, "ttrpc: closed")
	}
	delete(s.node.pods, r.GetPodSandboxId())
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

type imageService struct {
	runtimeapi.UnimplementedImageServiceServer
	node *node
}

func (s *imageService) PullImage(_ context.Context, r *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	name := r.GetImage().GetImage()
	if err := s.node.pull(name); err != nil {
		return nil, err
	}
	s.node.images[name] = "id of " + name
	return &runtimeapi.PullImageResponse{ImageRef: s.node.images[name]}, nil
}

func (s *imageService) ImageStatus(_ context.Context, r *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if id, ok := s.node.images[r.GetImage().GetImage()]; ok {
		return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: id}}, nil
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (s *imageService) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	answer := &runtimeapi.ListImagesResponse{}
	for _, name := range slices.Sorted(maps.Keys(s.node.images)) {
		answer.Images = append(answer.Images, &runtimeapi.Image{Id: s.node.images[name], RepoDigests: []string{name}})
	}
	return answer, nil
}

func (s *imageService) RemoveImage(_ context.Context, r *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	asked := r.GetImage().GetImage()
	maps.DeleteFunc(s.node.images, func(name, id string) bool { return name == asked || id == asked })
	return &runtimeapi.RemoveImageResponse{}, nil
}

type contentService struct {
	contentapi.UnimplementedContentServer
	node *node
}

func (s *contentService) Write(stream contentapi.Content_WriteServer) error {
	var content []byte
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content = append(content, request.GetData()...)
		if request.GetAction() == contentapi.WriteAction_COMMIT {
			s.node.mu.Lock()
			s.node.blobs[request.GetExpected()] = content
			s.node.mu.Unlock()
		}
		if err := stream.Send(&contentapi.WriteContentResponse{}); err != nil {
			return err
		}
	}
}

type recordService struct {
	imagesapi.UnimplementedImagesServer
	node *node
}

func (s *recordService) Create(_ context.Context, r *imagesapi.CreateImageRequest) (*imagesapi.CreateImageResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	manifest := s.node.blobs[r.GetImage().GetTarget().GetDigest()]
	if len(s.node.leases) == 0 || len(s.node.blobs) != 3 || manifest == nil {
		return nil, status.Error(codes.FailedPrecondition, "without a lease, or without all that the image is of")
	}
	if s.node.images[r.GetImage().GetName()] != "" {
		return nil, status.Error(codes.AlreadyExists, "there is one")
	}
	s.node.images[r.GetImage().GetName()] = "id of the canary"
	return &imagesapi.CreateImageResponse{Image: r.GetImage()}, nil
}

func (s *recordService) List(_ context.Context, r *imagesapi.ListImagesRequest) (*imagesapi.ListImagesResponse, error) {
	if len(r.GetFilters()) != 1 || r.GetFilters()[0] != `name~="^127\\.67\\.83\\.71:871/"` {
		return nil, status.Errorf(codes.InvalidArgument, "filters %q", r.GetFilters())
	}
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	answer := &imagesapi.ListImagesResponse{}
	for name := range s.node.images {
		if ours(name) {
			answer.Images = append(answer.Images, &imagesapi.Image{Name: name})
		}
	}
	return answer, nil
}

func (s *recordService) Delete(_ context.Context, r *imagesapi.DeleteImageRequest) (*emptypb.Empty, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	delete(s.node.images, r.GetName())
	return &emptypb.Empty{}, nil
}

type leaseService struct {
	leasesapi.UnimplementedLeasesServer
	node *node
}

func (s *leaseService) Create(_ context.Context, r *leasesapi.CreateRequest) (*leasesapi.CreateResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if s.node.leases[r.GetID()] {
		return nil, status.Error(codes.AlreadyExists, r.GetID())
	}
	s.node.leases[r.GetID()] = true
	return &leasesapi.CreateResponse{}, nil
}

func (s *leaseService) Delete(_ context.Context, r *leasesapi.DeleteRequest) (*emptypb.Empty, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if !s.node.leases[r.GetID()] {
		return nil, status.Error(codes.NotFound, r.GetID())
	}
	delete(s.node.leases, r.GetID())
	return &emptypb.Empty{}, nil
}
