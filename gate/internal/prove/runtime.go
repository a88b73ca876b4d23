package prove

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	maxAnswer = 16 << 20
	// known is how long the runtime has to learn of an image that came in past CRI.
	known = 5 * time.Second
	// mark is the label of every pod of a proof.
	mark = "countersign.proof"
)

// runtime is what a kubelet asks of containerd or CRI-O.
type runtime struct {
	conn         *grpc.ClientConn
	runtime      runtimeapi.RuntimeServiceClient
	images       runtimeapi.ImageServiceClient
	cgroupParent string
}

func dial(socket, cgroupParent string) (*runtime, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, err
	}
	return &runtime{conn: conn, runtime: runtimeapi.NewRuntimeServiceClient(conn), images: runtimeapi.NewImageServiceClient(conn), cgroupParent: cgroupParent}, nil
}

// version gives the runtime's own name and version.
func (r *runtime) version(ctx context.Context) (Runtime, error) {
	answer, err := r.runtime.Version(ctx, &runtimeapi.VersionRequest{Version: "v1"})
	if err != nil {
		return Runtime{}, said("Version", err)
	}
	return Runtime{Name: answer.GetRuntimeName(), Version: answer.GetRuntimeVersion()}, nil
}

// Parents of the pods of a proof, as the two cgroup drivers write one.
const (
	slice  = "countersign.slice"
	cgroup = "/countersign"
)

// parent finds the cgroup for pods where none was named: a runtime that leaves cgroups to
// systemd makes no pod below any other name. What the runtime does not say is left to it.
func (r *runtime) parent(ctx context.Context) {
	if r.cgroupParent != "" {
		return
	}
	answer, err := r.runtime.RuntimeConfig(ctx, &runtimeapi.RuntimeConfigRequest{})
	switch {
	case err != nil:
	case answer.GetLinux().GetCgroupDriver() == runtimeapi.CgroupDriver_SYSTEMD:
		r.cgroupParent = slice
	default:
		r.cgroupParent = cgroup
	}
}

// handlers lists the runtime handlers, sorted: those that the runtime names over CRI,
// and on containerd those of its configuration too.
func (r *runtime) handlers(ctx context.Context) ([]string, error) {
	answer, err := r.runtime.Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return nil, said("Status", err)
	}
	var found []string
	for _, one := range answer.GetRuntimeHandlers() {
		found = append(found, one.GetName())
	}
	var config struct {
		Containerd struct {
			Runtimes map[string]json.RawMessage `json:"runtimes"`
		} `json:"containerd"`
	}
	if text := answer.GetInfo()["config"]; text != "" {
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			return nil, fmt.Errorf("the runtime's configuration: %w", err)
		}
	}
	for name := range config.Containerd.Runtimes {
		found = append(found, name)
	}
	slices.Sort(found)
	found = slices.DeleteFunc(slices.Compact(found), func(name string) bool { return name == "" }) // the default one goes by its name too
	if len(found) == 0 {
		return nil, errors.New("the runtime names no runtime handler, so not all can be tried; expected containerd 2.1 or CRI-O 1.31, or newer")
	}
	return found, nil
}

// pull pulls an image as a kubelet would, and gives its ID.
func (r *runtime) pull(ctx context.Context, name string) (string, error) {
	answer, err := r.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: name, UserSpecifiedImage: name}})
	return answer.GetImageRef(), said("PullImage", err)
}

// find gives the ID of an image by a name of it, or "".
func (r *runtime) find(ctx context.Context, name string) (string, error) {
	answer, err := r.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	return answer.GetImage().GetId(), said("ImageStatus", err)
}

// await gives the ID of an image that the runtime is about to learn of.
func (r *runtime) await(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, known)
	defer cancel()
	for {
		id, err := r.find(ctx, name)
		if id != "" || err != nil {
			return id, err
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return "", fmt.Errorf("the runtime did not learn of %s", name)
		}
	}
}

func (r *runtime) list(ctx context.Context) ([]*runtimeapi.Image, error) {
	answer, err := r.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	return answer.GetImages(), said("ListImages", err)
}

func (r *runtime) remove(ctx context.Context, image string) error {
	_, err := r.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	return said("RemoveImage", err)
}

// notTried says that the runtime failed before the image came into it.
type notTried struct{ error }

// start has a container of an image start in a pod of its own under a handler. It gives
// nil if it started, whatever became of it then. A program of the node is mounted into
// the container and started instead of the image's own where one is given.
func (r *runtime) start(ctx context.Context, handler, id, name, program string) error {
	sandbox := r.sandbox()
	pod, err := r.runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: sandbox, RuntimeHandler: handler})
	if err != nil {
		return notTried{said("RunPodSandbox", err)}
	}
	container := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "canary"},
		Image:    &runtimeapi.ImageSpec{Image: id, UserSpecifiedImage: name},
		Command:  []string{"/" + entry},
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions(),
			Capabilities:     &runtimeapi.Capability{DropCapabilities: []string{"ALL"}},
			NoNewPrivs:       true,
		}},
	}
	if program != "" {
		if info, err := os.Lstat(program); err != nil || !info.Mode().IsRegular() {
			return notTried{fmt.Errorf("%s is not a file", program)}
		}
		defer removeFolder(program)
		container.Mounts = []*runtimeapi.Mount{{ContainerPath: "/" + entry, HostPath: program, Readonly: true}}
	}
	created, err := r.runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod.GetPodSandboxId(), Config: container, SandboxConfig: sandbox})
	if err != nil {
		return said("CreateContainer", err)
	}
	_, err = r.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.GetContainerId()})
	return said("StartContainer", err)
}

// removeFolder takes away what a runtime makes of a mount whose file has just gone: an
// empty folder, which would keep the file from coming back.
func removeFolder(path string) {
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		_ = os.Remove(path) // one that has anything in it is not of a runtime's making
	}
}

// sandbox is a pod as the kubelet asks for one, in the node's own network: a proof can
// be had before the pod network is there.
func (r *runtime) sandbox() *runtimeapi.PodSandboxConfig {
	uid := strings.ToLower(rand.Text())
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "countersign-proof-" + uid[:8], Namespace: "countersign-proof", Uid: uid},
		Labels:   map[string]string{mark: "canary"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: r.cgroupParent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{
				Network: runtimeapi.NamespaceMode_NODE, Pid: runtimeapi.NamespaceMode_CONTAINER, Ipc: runtimeapi.NamespaceMode_POD,
			}},
		},
	}
}

// removePods removes every pod of a proof, this one's and those of one that was killed.
func (r *runtime) removePods(ctx context.Context) error {
	answer, err := r.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{mark: "canary"}}})
	if err != nil {
		return said("ListPodSandbox", err)
	}
	return each(answer.GetItems(), func(pod *runtimeapi.PodSandbox) (err error) {
		for range tries { // as the kubelet does: a shim that is just ending makes a call fail
			if err = r.removePod(ctx, pod.GetId()); err == nil || pause(ctx, 200*time.Millisecond) != nil {
				return err
			}
		}
		return err
	})
}

func (r *runtime) removePod(ctx context.Context, id string) error {
	if _, err := r.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return said("StopPodSandbox", err)
	}
	_, err := r.runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
	return said("RemovePodSandbox", err)
}

// removeImages removes every image that has a name of the canary's registry.
func (r *runtime) removeImages(ctx context.Context) error {
	found, err := r.list(ctx)
	if err != nil {
		return err
	}
	for _, one := range found {
		if slices.ContainsFunc(slices.Concat(one.GetRepoTags(), one.GetRepoDigests()), ours) {
			if err := r.remove(ctx, one.GetId()); err != nil {
				return err
			}
		}
	}
	return nil
}

// ours says whether an image's name is one of the canary's.
func ours(name string) bool { return strings.HasPrefix(name, Registry+"/") }

// said makes the error of a call readable; nil stays nil.
func said(call string, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	return fmt.Errorf("%s: %s: %s", call, s.Code(), s.Message())
}
