package nri

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"countersign/gate/internal/peer"
)

// again is the wait before it is asked anew whether a runtime listens on its own socket.
const again = 200 * time.Millisecond

var errStranger = errors.New("another runtime serves this NRI socket")

// OfRuntime says whether the process that serves an NRI socket is the one that listens on a
// runtime's own: runtimes have the same default for the first, and the last that started serves it.
// It is nil as well when that can't be told.
func OfRuntime(socket, runtime string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	if err := sameRuntime(ctx, conn.(*net.UnixConn), runtime); errors.Is(err, errStranger) {
		return err
	}
	return nil
}

func (p *Plugin) ofRuntime(ctx context.Context, conn *net.UnixConn) error {
	if p.runtime == "" {
		return nil
	}
	return sameRuntime(ctx, conn, p.runtime)
}

// sameRuntime gives errStranger for a connection to another process than a runtime's, and another
// error where that can't be told.
func sameRuntime(ctx context.Context, conn *net.UnixConn, runtime string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	same, err := peer.SameProcess(ctx, conn, runtime)
	if err == nil && !same {
		return fmt.Errorf("%w: it does not listen on %s", errStranger, runtime)
	}
	return err
}

// awaitStranger tells strange if a connection turns out to be to another runtime, and nothing
// else: a connection that ends in order is not to be cut off. It asks until it knows, for a runtime
// that starts serves NRI before it listens on its own socket.
func (p *Plugin) awaitStranger(ctx context.Context, conn *net.UnixConn, strange chan<- error) {
	for ctx.Err() == nil {
		err := p.ofRuntime(ctx, conn)
		if errors.Is(err, errStranger) {
			strange <- err
		}
		if err == nil || errors.Is(err, errStranger) || errors.Is(err, peer.ErrHidden) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}
