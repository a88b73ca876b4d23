package bind

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/verdict"
)

func TestUnreachable(t *testing.T) {
	t.Run("nothing listens", func(t *testing.T) {
		b := newBinder(t, filepath.Join(t.TempDir(), "none.sock"))
		_, err := b.Container(context.Background(), stateOf(tagged), nil)
		wantCode(t, err, code.RuntimeUnreachable)
	})
	t.Run("it hangs", func(t *testing.T) {
		n := fakecontainerd.Start(t)
		n.Delay = time.Minute
		start := time.Now()
		_, err := bindIt(t, n, tagged)
		wantCode(t, err, code.RuntimeUnreachable)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
	t.Run("it accepts and says nothing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "mute.sock")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		_, err = newBinder(t, path).Container(context.Background(), stateOf(tagged), nil)
		wantCode(t, err, code.RuntimeUnreachable)
	})
}

func TestLiveFindsByPrefix(t *testing.T) {
	n := fakecontainerd.Start(t)
	image := n.Image(t, "layer", "app")
	n.Images[tagged] = image.Target()
	n.Create(t, fakecontainerd.Container{ID: "abc123", Name: tagged, Image: image})
	n.Create(t, fakecontainerd.Container{ID: "abd456", Name: tagged, Image: image})
	b := newBinder(t, n.Address)
	state, err := b.Live(context.Background(), "abc")
	if err != nil || state.ID != "abc123" || state.Image() != tagged {
		t.Fatalf("got %+v, %v", state, err)
	}
	trace := &verdict.Trace{}
	if _, err := b.Container(context.Background(), state, trace); err != nil {
		t.Fatal(err)
	}
	if len(trace.Steps()) != 3 {
		t.Errorf("got steps %+v", trace.Steps())
	}
	for _, ambiguous := range []string{"ab", "fff", "a.*", "abc.2"} {
		_, err := b.Live(context.Background(), ambiguous)
		wantCode(t, err, code.BadReference)
	}
}
