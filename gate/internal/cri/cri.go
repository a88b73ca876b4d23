// Package cri asks a runtime, by the one API that containerd and CRI-O share
// (k8s.io/cri-api), what runs on the node and what is cached there, and stops
// containers.
package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// patience bounds one question.
	patience = 10 * time.Second
	// grace is what a container has between SIGTERM and SIGKILL.
	grace = 10 * time.Second
	// maxAnswer bounds an answer: a node has some hundreds of containers and images.
	maxAnswer = 16 << 20
)

// Container is one that runs.
type Container struct {
	ID        string
	Name      string // in its pod
	Pod       string
	Namespace string
}

// Image is one of the runtime's store. Names has its names by tag, and those by digest
// of repositories of which it has no tag.
type Image struct {
	ID    string
	Names []string
}

// Client asks one runtime.
type Client struct {
	address string
	conn    *grpc.ClientConn
	runtime runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
}

// New makes a client for the runtime at a unix socket. It connects when first asked.
func New(address string) (*Client, error) {
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("the runtime at %s: %w", address, err)
	}
	return &Client{address: address, conn: conn, runtime: runtimeapi.NewRuntimeServiceClient(conn), images: runtimeapi.NewImageServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Running lists the containers that run, sorted by namespace, pod and name. One whose
// state the runtime does not know may run, and is among them.
func (c *Client) Running(ctx context.Context) ([]Container, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := c.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return nil, c.failed("containers", err)
	}
	sandboxes, err := c.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, c.failed("pod sandboxes", err)
	}
	pods := map[string]*runtimeapi.PodSandboxMetadata{}
	for _, sandbox := range sandboxes.GetItems() {
		pods[sandbox.GetId()] = sandbox.GetMetadata()
	}
	var running []Container
	for _, one := range response.GetContainers() {
		if s := one.GetState(); s != runtimeapi.ContainerState_CONTAINER_RUNNING && s != runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			continue
		}
		pod := pods[one.GetPodSandboxId()]
		running = append(running, Container{ID: one.GetId(), Name: one.GetMetadata().GetName(), Pod: pod.GetName(), Namespace: pod.GetNamespace()})
	}
	sort(running)
	return running, nil
}

// Sandboxes lists the pods whose sandbox has a process, which CRI-O drops where nothing
// needs it, sorted by namespace and name.
func (c *Client) Sandboxes(ctx context.Context) ([]Container, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ready := &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}}
	response, err := c.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: ready})
	if err != nil {
		return nil, c.failed("pod sandboxes", err)
	}
	var running []Container
	for _, one := range response.GetItems() {
		found, err := c.runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: one.GetId(), Verbose: true})
		if status.Code(err) == codes.NotFound {
			continue // it ended meanwhile
		}
		if err != nil {
			return nil, c.failed("pod sandbox "+one.GetId(), err)
		}
		var info struct {
			PID int `json:"pid"`
		}
		if err := json.Unmarshal([]byte(found.GetInfo()["info"]), &info); err != nil {
			return nil, fmt.Errorf("pod sandbox %s: the runtime at %s: its info: %w", one.GetId(), c.address, err)
		}
		if info.PID > 0 {
			running = append(running, Container{ID: one.GetId(), Pod: one.GetMetadata().GetName(), Namespace: one.GetMetadata().GetNamespace()})
		}
	}
	sort(running)
	return running, nil
}

func sort(containers []Container) {
	slices.SortFunc(containers, func(a, b Container) int {
		return slices.Compare([]string{a.Namespace, a.Pod, a.Name, a.ID}, []string{b.Namespace, b.Pod, b.Name, b.ID})
	})
}

// Images lists the store, sorted by names. An image without names is left out: no pod
// can be started from it but by its ID.
func (c *Client) Images(ctx context.Context) ([]Image, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := c.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, c.failed("images", err)
	}
	var images []Image
	for _, one := range response.GetImages() {
		if names := namesOf(one); len(names) > 0 {
			images = append(images, Image{ID: one.GetId(), Names: names})
		}
	}
	slices.SortFunc(images, func(a, b Image) int { return slices.Compare(a.Names, b.Names) })
	return images, nil
}

func namesOf(image *runtimeapi.Image) []string {
	names := slices.Clone(image.GetRepoTags())
	tagged := map[string]bool{}
	for _, name := range names {
		if cut := strings.LastIndexByte(name, ':'); cut > 0 {
			tagged[name[:cut]] = true
		}
	}
	for _, name := range image.GetRepoDigests() {
		if repository, _, _ := strings.Cut(name, "@"); !tagged[repository] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Stop stops a container.
func (c *Client) Stop(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, grace+patience)
	defer cancel()
	_, err := c.runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: int64(grace / time.Second)})
	if err != nil {
		return c.failed("stop", err)
	}
	return nil
}

func (c *Client) failed(what string, err error) error {
	return fmt.Errorf("%s: the runtime at %s: %s", what, c.address, status.Convert(err).Message())
}
