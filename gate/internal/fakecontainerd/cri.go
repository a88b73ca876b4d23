package fakecontainerd

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The pod of every container of the fake.
const (
	PodName      = "pod"
	PodNamespace = "default"
)

type runtimeService struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	node *Node
}

func (s *runtimeService) ListPodSandbox(context.Context, *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	return &runtimeapi.ListPodSandboxResponse{Items: []*runtimeapi.PodSandbox{
		{Id: SandboxID, Metadata: &runtimeapi.PodSandboxMetadata{Name: PodName, Namespace: PodNamespace}},
	}}, nil
}

func (s *runtimeService) ListContainers(context.Context, *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	response := &runtimeapi.ListContainersResponse{}
	for id, c := range s.node.Containers {
		if c.GetLabels()["io.cri-containerd.kind"] != "container" {
			continue
		}
		state := runtimeapi.ContainerState_CONTAINER_RUNNING
		if s.node.Ended[id] {
			state = runtimeapi.ContainerState_CONTAINER_EXITED
		}
		response.Containers = append(response.Containers, &runtimeapi.Container{
			Id: id, PodSandboxId: SandboxID, Metadata: &runtimeapi.ContainerMetadata{Name: "app"}, State: state,
		})
	}
	return response, nil
}

// PodSandboxStatus says whether the sandbox's container has a process.
func (s *runtimeService) PodSandboxStatus(context.Context, *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	pid := 0
	if _, ok := s.node.Containers[SandboxID]; ok {
		pid = 7
	}
	return &runtimeapi.PodSandboxStatusResponse{Info: map[string]string{"info": fmt.Sprintf(`{"pid": %d}`, pid)}}, nil
}

// Status tells of one runtime handler, with the node's base spec.
func (s *runtimeService) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	config := fmt.Sprintf(`{"containerd": {"defaultRuntimeName": "runc", "runtimes": {"runc": {"runtimeType": "io.containerd.runc.v2", "baseRuntimeSpec": %q}}}}`, s.node.BaseSpec)
	return &runtimeapi.StatusResponse{Info: map[string]string{"config": config}}, nil
}

func (s *runtimeService) StopContainer(_ context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if s.node.Immortal[r.GetContainerId()] {
		return nil, status.Error(codes.Internal, "it does not die")
	}
	s.node.Ended[r.GetContainerId()] = true
	return &runtimeapi.StopContainerResponse{}, nil
}

// Runs has a container run, also between requests.
func (n *Node) Runs(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Ended[id] = false
}

type criImages struct {
	runtimeapi.UnimplementedImageServiceServer
	node *Node
}

// ListImages gives each image record as an image of its own.
func (s *criImages) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	response := &runtimeapi.ListImagesResponse{}
	for name, target := range s.node.Images {
		image := &runtimeapi.Image{Id: target}
		if strings.Contains(name, "@") {
			image.RepoDigests = []string{name}
		} else {
			image.RepoTags = []string{name}
		}
		response.Images = append(response.Images, image)
	}
	return response, nil
}
