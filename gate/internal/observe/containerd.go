package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	eventsapi "github.com/containerd/containerd/api/services/events/v1"

	"github.com/containerd/containerd/api/events"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	taskStart = "/tasks/start"
	// Names of containerd's CRI plugin (internal/cri/labels).
	labelKind   = "io.cri-containerd.kind"
	kindSandbox = "sandbox"
	// patience bounds one question, and pause is the wait before the next connection.
	patience = 5 * time.Second
	pause    = time.Second
)

// Containerd tells of each container of a namespace that starts, by containerd's events,
// until the context ends. Sandboxes are left out. Whenever the stream of events ends it
// begins another; connected is called as soon as there is one.
func Containerd(ctx context.Context, address, namespace string, connected func(), started func(id string)) error {
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("containerd at %s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	s := source{containers: containersapi.NewContainersClient(conn), events: eventsapi.NewEventsClient(conn), namespace: namespace}
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	for told := ""; ctx.Err() == nil; {
		err := s.stream(ctx, func() { told = ""; connected() }, started)
		if ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			slog.Warn("no events of containerd; trying again", "address", address, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

type source struct {
	containers containersapi.ContainersClient
	events     eventsapi.EventsClient
	namespace  string
}

// stream is one subscription, to its end.
func (s source) stream(ctx context.Context, connected func(), started func(id string)) error {
	filter := fmt.Sprintf("namespace==%q,topic==%q", s.namespace, taskStart)
	stream, err := s.events.Subscribe(ctx, &eventsapi.SubscribeRequest{Filters: []string{filter}})
	if err != nil {
		return err
	}
	connected()
	for {
		envelope, err := stream.Recv()
		if err != nil {
			return err
		}
		var start events.TaskStart
		if envelope.GetNamespace() != s.namespace || envelope.GetTopic() != taskStart {
			return errors.New("an event that nobody subscribed to")
		}
		if err := proto.Unmarshal(envelope.GetEvent().GetValue(), &start); err != nil {
			return fmt.Errorf("%s: %w", taskStart, err)
		}
		if id := start.GetContainerID(); !s.sandbox(ctx, id) {
			started(id)
		}
	}
}

// sandbox says whether a container is a pod's sandbox, which no hook sees either. One
// about which containerd gives no answer is none.
func (s source) sandbox(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	response, err := s.containers.Get(ctx, &containersapi.GetContainerRequest{ID: id})
	if err != nil && status.Code(err) != codes.NotFound {
		slog.Warn("container not looked at", "container", id, "error", err)
	}
	return response.GetContainer().GetLabels()[labelKind] == kindSandbox
}
