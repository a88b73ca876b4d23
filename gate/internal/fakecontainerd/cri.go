package fakecontainerd

import (
	"context"
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
	for id := range s.node.Containers {
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

func (s *runtimeService) StopContainer(_ context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	if s.node.Immortal[r.GetContainerId()] {
		return nil, status.Error(codes.Internal, "it does not die")
	}
	s.node.Ended[r.GetContainerId()] = true
	return &runtimeapi.StopContainerResponse{}, nil
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
