// Package daemon serves the engine on the gate's socket, and all that a service
// needs besides: the verdict log, metrics, reload of the policy, and the service
// manager's protocol.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"countersign/gate/internal/code"
	"countersign/gate/internal/peer"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

const (
	// maxConnections bounds the requests in hand; more wait in the socket's backlog.
	maxConnections = 128
	// transfer bounds reading a request and writing a response.
	transfer = 5 * time.Second
	// maxDrained bounds what is read, and thrown away, of a request over the bound.
	maxDrained = 16 << 20
	// grace is how long requests in hand may take once the daemon is told to stop.
	grace = 6 * time.Second
)

// Decider makes the verdicts (package engine).
type Decider interface {
	Create(ctx context.Context, state []byte) *verdict.Verdict
	Pull(ctx context.Context, request wire.PullRequest) *verdict.Verdict
	Verify(ctx context.Context, name string) *verdict.Verdict
	Explain(ctx context.Context, name string) *verdict.Verdict
	// PolicyHash is the sha256 of the policy in force, "" before there is one.
	PolicyHash() string
}

// Server answers requests on a unix socket.
type Server struct {
	NRI       func() string      // the state of the gate's NRI plugin, for a ping; nil for no word
	Policy    func() PolicyState // and of the policy
	Observing bool               // nothing is enforced: hook and verifier, which this node should not have, are refused

	decider  Decider
	listener *net.UnixListener
	slots    chan struct{}
	hands    sync.WaitGroup
	closing  atomic.Bool
	ended    chan struct{} // closed once Serve accepts no more
}

// NewServer makes a server for a listener (see Listen).
func NewServer(decider Decider, listener *net.UnixListener) *Server {
	return &Server{decider: decider, listener: listener, slots: make(chan struct{}, maxConnections), ended: make(chan struct{})}
}

// Serve answers until Shutdown; then it returns nil.
func (s *Server) Serve() error {
	defer close(s.ended)
	for {
		s.slots <- struct{}{}
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			<-s.slots
			if s.closing.Load() {
				return nil
			}
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
				slog.Error("accept", "error", err)
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return fmt.Errorf("accept on %s: %w", s.listener.Addr(), err)
		}
		s.hands.Go(func() {
			defer func() { <-s.slots }()
			s.answer(conn)
		})
	}
}

// Shutdown stops accepting and waits for the requests in hand, for grace at most.
func (s *Server) Shutdown() {
	s.closing.Store(true)
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		slog.Warn("close socket", "error", err)
	}
	done := make(chan struct{})
	go func() {
		<-s.ended // one that was accepted last may not be in hand yet
		s.hands.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(grace):
		slog.Warn("requests were cut off", "after", grace)
	}
}

// answer serves one connection. Whatever it can't read it refuses.
func (s *Server) answer(conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	if err := checkPeer(conn); err != nil {
		slog.Error("connection refused", "error", err)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(transfer)) // fails only on a closed connection, and so does the read
	op, body, err := wire.ReadRequest(conn)
	// The context ends with the verdict: the client's going away cancels nothing,
	// for others may wait for the same, and the log wants the verdict.
	v := s.decide(context.Background(), op, body, err)
	_ = conn.SetWriteDeadline(time.Now().Add(transfer))
	if writeErr := wire.WriteResponse(conn, v); writeErr != nil && !errors.Is(writeErr, unix.EPIPE) {
		slog.Warn("response not delivered", "op", op, "code", v.Code, "error", writeErr)
	}
	// To close with a request unread would take the answer back from the client.
	if errors.Is(err, wire.ErrTooLarge) {
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxDrained)) // within the read deadline
	}
}

func (s *Server) decide(ctx context.Context, op wire.Op, body []byte, err error) *verdict.Verdict {
	if err != nil {
		return unreadable(err)
	}
	if s.Observing && (op == wire.Create || op == wire.Pull) {
		return observes(op)
	}
	switch op {
	case wire.Create:
		return s.decider.Create(ctx, body)
	case wire.Pull:
		return decoded(body, func(r wire.PullRequest) *verdict.Verdict { return s.decider.Pull(ctx, r) })
	case wire.Verify:
		return decoded(body, func(r wire.NameRequest) *verdict.Verdict { return s.decider.Verify(ctx, r.Name) })
	case wire.Explain:
		return decoded(body, func(r wire.NameRequest) *verdict.Verdict { return s.decider.Explain(ctx, r.Name) })
	case wire.Ping:
		v := &verdict.Verdict{Version: verdict.Version, Time: time.Now().UTC(), Allow: true, Code: code.OK, Message: "countersign: the gate serves", Policy: s.decider.PolicyHash(), PID: os.Getpid()}
		if s.NRI != nil {
			v.NRI = s.NRI()
		}
		if s.Policy != nil {
			state := s.Policy()
			v.Serial, v.PolicyError = state.Serial, state.Problem
			v.Fit()
		}
		if s.Observing {
			v.Mode, v.Message = Observing, "countersign: "+NotEnforcing
		}
		return v
	}
	return unreadable(wire.ErrUnknownOp)
}

// What a gate that observes says of itself.
const (
	Observing    = "observing"
	NotEnforcing = "OBSERVING, NOT ENFORCING: this node starts what the policy refuses"
)

// observes refuses what asks an observing gate to decide. Whoever asks would start
// nothing without an answer that allows, and an observer gives none.
func observes(op wire.Op) *verdict.Verdict {
	refusal := code.Refuse(code.GateDown, "this gate observes only, and something on the node asks it to decide: "+string(op), "a gate that serves",
		"run countersign-gate serve instead of observe, or take hook and verifier out of the runtime's configuration")
	slog.Error("ASKED TO DECIDE while observing", "op", op)
	return &verdict.Verdict{Version: verdict.Version, Time: time.Now().UTC(), Code: refusal.Code, Message: "countersign: refused a request: " + refusal.Error()}
}

func decoded[R any](body []byte, decide func(R) *verdict.Verdict) *verdict.Verdict {
	var request R
	if err := json.Unmarshal(body, &request); err != nil {
		return unreadable(err)
	}
	return decide(request)
}

func unreadable(err error) *verdict.Verdict {
	c := code.Malformed
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c = code.Timeout
	}
	refusal := code.Refuse(c, "the request can't be read: "+err.Error(), "a request of this version", "install gate, hook and verifier of one version")
	slog.Warn("bad request", "error", err)
	v := &verdict.Verdict{Version: verdict.Version, Time: time.Now().UTC(), Code: c, Message: "countersign: refused a request: " + refusal.Error()}
	v.Fit()
	return v
}

// checkPeer lets only processes of the gate's own user (root) ask.
func checkPeer(conn *net.UnixConn) error {
	found, err := peer.Of(conn)
	if err != nil {
		return err
	}
	return allowedPeer(found.Uid)
}

func allowedPeer(uid uint32) error {
	if int(uid) != os.Geteuid() {
		return fmt.Errorf("peer has uid %d, and only uid %d may ask", uid, os.Geteuid())
	}
	return nil
}
