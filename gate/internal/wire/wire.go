// Package wire is the protocol of the gate's socket: one request a connection.
//
// Request: one line with the operation, then the body, then half-close.
// Response: line 1 "allow CODE" or "refuse CODE", line 2 the sentence, line 3 the
// verdict as JSON. Both directions are bounded. The hook speaks the same protocol
// without this package (see cmd/countersign-hook).
package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/code"
	"countersign/gate/internal/verdict"
)

// MaxMessage bounds a request and a response, in bytes.
const MaxMessage = 1 << 20

// maxSentence bounds the sentence: it travels in runtime errors and events.
const maxSentence = 2048

// Op is what is asked of the gate.
type Op string

// The operations.
const (
	Create  Op = "create"  // body: the OCI state as the runtime gave it to the hook
	Pull    Op = "pull"    // body: PullRequest
	Verify  Op = "verify"  // body: NameRequest
	Explain Op = "explain" // body: NameRequest
	Ping    Op = "ping"    // no body
)

// PullRequest is what containerd tells an image verifier.
type PullRequest struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
}

// NameRequest asks about an image reference or a container.
type NameRequest struct {
	Name string `json:"name"`
}

// Errors of a request that can't be read.
var (
	ErrTooLarge  = fmt.Errorf("message over %d bytes", MaxMessage)
	ErrUnknownOp = errors.New("unknown operation")
	ErrNoAnswer  = errors.New("answer not understood")
)

// ReadRequest reads a whole request. A body over the bound gives ErrTooLarge
// with the operation.
func ReadRequest(r io.Reader) (Op, []byte, error) {
	content, err := readBounded(r)
	line, body, found := bytes.Cut(content, []byte("\n"))
	op := Op(line)
	switch op {
	case Create, Pull, Verify, Explain, Ping:
	default:
		return "", nil, errors.Join(fmt.Errorf("%w: %.40q", ErrUnknownOp, line), err)
	}
	if err == nil && !found {
		err = fmt.Errorf("%w: no end of line", ErrUnknownOp)
	}
	return op, body, err
}

// WriteResponse writes a verdict.
func WriteResponse(w io.Writer, v *verdict.Verdict) error {
	document, err := json.Marshal(v)
	if err != nil {
		return err
	}
	word := "refuse"
	if v.Allow && v.Code.Allows() {
		word = "allow"
	}
	response := fmt.Sprintf("%s %s\n%s\n%s\n", word, v.Code, clean.Line(v.Message, maxSentence), document)
	if len(response) > MaxMessage {
		return ErrTooLarge
	}
	_, err = io.WriteString(w, response)
	return err
}

// ReadResponse reads a verdict. The first line decides: a document that
// contradicts it is ErrNoAnswer.
func ReadResponse(r io.Reader) (*verdict.Verdict, error) {
	content, err := readBounded(r)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitN(string(content), "\n", 4)
	if len(lines) != 4 || lines[3] != "" {
		return nil, fmt.Errorf("%w: cut short after %d bytes", ErrNoAnswer, len(content))
	}
	var v verdict.Verdict
	if err := json.Unmarshal([]byte(lines[2]), &v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	word := "refuse"
	if v.Allow && v.Code.Allows() {
		word = "allow"
	}
	if lines[0] != word+" "+string(v.Code) || !code.Known(v.Code) || v.Allow != (word == "allow") {
		return nil, fmt.Errorf("%w: %.60q", ErrNoAnswer, lines[0])
	}
	v.Fit() // the gate's answers are clean; those of an older one may not be
	return &v, nil
}

// Call sends a request to the gate at socket and returns its verdict. body is
// sent as it is if it is []byte, else as JSON. The context's deadline holds for
// the whole exchange.
func Call(ctx context.Context, socket string, op Op, body any) (*verdict.Verdict, error) {
	content, raw := body.([]byte)
	if !raw && body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// A gate that refuses early stops reading; its answer is what counts.
	_, writeErr := conn.Write(append([]byte(op+"\n"), content...))
	if writeErr == nil {
		writeErr = conn.(*net.UnixConn).CloseWrite()
	}
	v, err := ReadResponse(conn)
	switch {
	case err == nil:
		return v, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer from %s: %w", socket, context.Cause(ctx))
	default:
		return nil, errors.Join(err, writeErr)
	}
}

// readBounded reads to the end; over MaxMessage it gives what it has and ErrTooLarge.
func readBounded(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err == nil && len(content) > MaxMessage {
		return content[:MaxMessage], ErrTooLarge
	}
	return content, err
}
