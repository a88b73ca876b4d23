package bind

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/reference"
)

// Names that containerd's CRI plugin uses (internal/cri/annotations, internal/cri/labels).
const (
	annotationType      = "io.kubernetes.cri.container-type"
	annotationImageName = "io.kubernetes.cri.image-name"
	annotationNamespace = "io.kubernetes.cri.sandbox-namespace"
	annotationName      = "io.kubernetes.cri.sandbox-name"
	annotationUID       = "io.kubernetes.cri.sandbox-uid"
	labelKind           = "io.cri-containerd.kind"
	kindContainer       = "container"
	metadataExtension   = "io.cri-containerd.container.metadata"
	metadataVersion     = "v1"
)

// restoredAnnotations are those that containerd before 2.4 sets on a container
// that it restores from a checkpoint (CRImportCheckpoint).
var restoredAnnotations = []string{"restored", "checkpointedAt", "checkpointImage"}

// containerID is what containerd accepts as an identifier.
var containerID = regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`)

// State is what is read of the OCI state that the runtime gave to the hook
// (runtime-spec, "State"). Its annotations are only ever compared.
type State struct {
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations"`

	image, pod, podUID string // for messages, where a runtime has annotations of its own
}

// Describe sets the image's name and the pod for messages, for a runtime whose
// annotations are not containerd's.
func (s *State) Describe(image, pod, uid string) { s.image, s.pod, s.podUID = image, pod, uid }

// Image gives the name in the state, for messages.
func (s *State) Image() string {
	if s.image != "" {
		return s.image
	}
	return s.Annotations[annotationImageName]
}

// Pod gives namespace/name of the pod, for messages.
func (s *State) Pod() string {
	if s.pod != "" || s.Annotations[annotationName] == "" {
		return s.pod
	}
	return s.Annotations[annotationNamespace] + "/" + s.Annotations[annotationName]
}

// PodUID gives the pod's UID in the cluster, for those who tell of it there.
func (s *State) PodUID() string {
	if s.podUID != "" {
		return s.podUID
	}
	return s.Annotations[annotationUID]
}

// ParseState reads the OCI state of a container of containerd's CRI plugin. It
// returns a *code.Refusal.
func ParseState(content []byte) (*State, error) {
	s, err := DecodeState(content)
	if err != nil {
		return nil, err
	}
	if t := s.Annotations[annotationType]; t != kindContainer {
		return s, code.Refuse(code.UnsupportedRuntime, fmt.Sprintf("annotation %s is %.40q", annotationType, t),
			"a container that containerd's CRI plugin started", "start it through CRI; sandboxes get no hook")
	}
	return s, nil
}

// State is ParseState.
func (b *Binder) State(content []byte) (*State, error) { return ParseState(content) }

// DecodeState reads the OCI state of any container. It returns a *code.Refusal.
func DecodeState(content []byte) (*State, error) {
	var s State
	decoder := json.NewDecoder(bytes.NewReader(content))
	if err := decoder.Decode(&s); err != nil {
		return nil, code.Refuse(code.Malformed, "the OCI state is not JSON: "+err.Error(), "the state as the runtime gives it to a hook", "look at the runtime's log")
	}
	if len(s.ID) > 256 || !containerID.MatchString(s.ID) {
		return nil, code.Refuse(code.Malformed, fmt.Sprintf("the OCI state has the id %.80q", s.ID), "a container ID", "look at the runtime's log")
	}
	return &s, nil
}

// criMetadata is what is read of internal/cri/store/container.Metadata.
type criMetadata struct {
	ID        string
	SandboxID string
	ImageRef  string // digest of the config
	Config    *struct {
		Image       criImage          `json:"image"`
		Annotations map[string]string `json:"annotations"`
		Mounts      []criMount        `json:"mounts"`
	}
}

type criImage struct {
	Image              string `json:"image"`
	UserSpecifiedImage string `json:"user_specified_image"`
}

type criMount struct {
	ContainerPath string    `json:"container_path"`
	HostPath      string    `json:"host_path"`
	Image         *criImage `json:"image"`
}

// parseMetadata reads and checks the CRI metadata of a container record.
func parseMetadata(container *containersapi.Container) (*criMetadata, error) {
	unsupported := func(found string) error {
		return code.Refuse(code.UnsupportedRuntime, "container "+container.GetID()+" "+found,
			"a container of containerd's CRI plugin, 2.1 or later", "start it through CRI")
	}
	if kind := container.GetLabels()[labelKind]; kind != kindContainer {
		return nil, unsupported(fmt.Sprintf("has label %s=%q", labelKind, kind))
	}
	extension := container.GetExtensions()[metadataExtension]
	if extension == nil {
		return nil, unsupported("has no CRI metadata")
	}
	var versioned struct {
		Version  string
		Metadata criMetadata
	}
	if err := json.Unmarshal(extension.GetValue(), &versioned); err != nil {
		return nil, unsupported("has CRI metadata that can't be read: " + err.Error())
	}
	m := &versioned.Metadata
	if versioned.Version != metadataVersion || m.Config == nil {
		return nil, unsupported(fmt.Sprintf("has CRI metadata of version %q", versioned.Version))
	}
	if m.ID != container.GetID() {
		return nil, unsupported("has the CRI metadata of " + m.ID)
	}
	if err := reference.CheckDigest(m.ImageRef); err != nil {
		return nil, unsupported("has no config digest as its image: " + err.Error())
	}
	for _, name := range restoredAnnotations {
		if _, ok := m.Config.Annotations[name]; ok {
			return nil, code.Refuse(code.UnsupportedRuntime, "the container is restored from a checkpoint", "a container that starts from its image",
				"create it anew; to rule this out, remove criu from the node or set enable_criu = false")
		}
	}
	return m, nil
}
