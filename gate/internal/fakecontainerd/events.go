package fakecontainerd

import (
	"slices"
	"testing"

	"github.com/containerd/containerd/api/events"
	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

type eventsService struct {
	eventsapi.UnimplementedEventsServer
	node *Node
}

// Subscribe takes the one filter that the gate asks by.
func (s *eventsService) Subscribe(r *eventsapi.SubscribeRequest, stream eventsapi.Events_SubscribeServer) error {
	if !slices.Equal(r.GetFilters(), []string{`namespace=="k8s.io",topic=="/tasks/start"`}) {
		return status.Error(codes.InvalidArgument, "not a filter that the fake knows")
	}
	queue := make(chan *types.Envelope, 1024)
	s.node.mu.Lock()
	s.node.subscribers[queue] = true
	s.node.mu.Unlock()
	defer func() {
		s.node.mu.Lock()
		delete(s.node.subscribers, queue)
		s.node.mu.Unlock()
	}()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case event := <-queue:
			if event == nil {
				return status.Error(codes.Unavailable, "containerd restarts")
			}
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
}

// Subscribers says how many wait for events.
func (n *Node) Subscribers() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.subscribers)
}

// Started tells all who subscribed that a container has started.
func (n *Node) Started(t testing.TB, id string) {
	t.Helper()
	event, err := anypb.New(&events.TaskStart{ContainerID: id, Pid: 1})
	if err != nil {
		t.Fatal(err)
	}
	n.publish(&types.Envelope{Namespace: Namespace, Topic: "/tasks/start", Event: event})
}

// Interrupt ends every stream of events.
func (n *Node) Interrupt() { n.publish(nil) }

func (n *Node) publish(event *types.Envelope) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for queue := range n.subscribers {
		queue <- event
	}
}
