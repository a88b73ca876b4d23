package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"countersign/gate/internal/code"
	"countersign/gate/internal/turns"

	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
)

// authError is a failure to get what a registry wants for authentication.
type authError struct{ err error }

func (e *authError) Error() string { return "getting a token: " + e.err.Error() }
func (e *authError) Unwrap() error { return e.err }

// classify gives the reason code of an error in talking to host: it could not
// be reached, it or its token server refused the credentials, or it answered
// nonsense.
func classify(host string, err error) *code.Refusal {
	var status remoteerrors.ErrUnexpectedStatus
	var clear *clearTextError
	var auth *authError
	var late *turns.Late
	switch {
	case errors.As(err, &late):
		return code.Refuse(code.Timeout, fmt.Sprintf("what %s answered was not read in time, beside other answers", host),
			"a gate that has fewer large answers to read", "try again, or push the evidence to the node")
	case errors.As(err, &clear):
		return unauthorised(host, clear.Error())
	case errors.As(err, &status):
		if status.StatusCode < http.StatusInternalServerError && status.StatusCode != http.StatusTooManyRequests {
			return unauthorised(host, "its token server answered "+status.Status)
		}
		return broken(host, err)
	case unreachable(err):
		return code.Refuse(code.NoEvidenceOffline, fmt.Sprintf("%s cannot be reached: %v", host, reason(err)),
			"evidence on this node, or its registry within reach", "start the registry, or push the evidence to the node")
	case errors.As(err, &auth):
		return unauthorised(host, err.Error())
	}
	return broken(host, err)
}

// unreachable tells a network that does not deliver from a server that answers
// wrongly.
func unreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	case errors.As(err, &dns):
		return true
	case errors.As(err, &op):
		return op.Op != "remote error" // that is a TLS alert: somebody did answer
	case errors.As(err, &timeout):
		return timeout.Timeout()
	}
	return false
}

// reason shortens an error to what a user can act on.
func reason(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &op):
		return op
	}
	return err
}

func broken(host string, err error) *code.Refusal {
	return code.Refuse(code.RegistryError, fmt.Sprintf("%s: %v", host, err), "an answer as in the OCI distribution spec",
		"look into the registry's log and hosts.toml")
}

func unauthorised(host, found string) *code.Refusal {
	return code.Refuse(code.RegistryAuth, host+" refused the gate: "+found, "credentials of the gate's own that may read there",
		"add them to the gate's Docker config, or push the evidence to the node")
}

func malformed(found, expected string) *code.Refusal {
	return code.Refuse(code.Malformed, found, expected, "sign the image again")
}

func tooLarge(host string, q query) *code.Refusal {
	return malformed(fmt.Sprintf("%s: %s is too large", host, q.path), fmt.Sprintf("at most %d bytes", q.limit))
}

func (s *session) tampered(what, want, got string) *code.Refusal {
	return code.Refuse(code.Tampered, fmt.Sprintf("%s/%s: %s has digest %s", s.registry, s.path, what, got),
		want, "look into the registry: it serves other bytes than were asked for")
}
