// Package relay hands on a gate's metrics, which are served on a socket of root's, at an
// address where Prometheus reaches them.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	patience   = 5 * time.Second
	maxMetrics = 4 << 20
	atOnce     = 4
)

// Listen opens address, HOST:PORT, for Serve; by TLS where there is a configuration.
func Listen(address string, secure *tls.Config) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil || secure == nil {
		return listener, err
	}
	return tls.NewListener(listener, secure), nil
}

// Serve answers GET /metrics with what the gate at the unix socket serves, until the
// context ends. A gate that does not answer is a 502: to Prometheus it is down. With may,
// only whoever has a token that it lets pass is answered.
func Serve(ctx context.Context, listener net.Listener, socket string, may May) error {
	gate := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, // a gate that was replaced has another socket
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	slots := make(chan struct{}, atOnce)
	asks := &guard{may: may}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			http.Error(w, "too many ask at once", http.StatusServiceUnavailable)
			return
		}
		if may != nil {
			if status := asks.status(r); status != http.StatusOK {
				if status == http.StatusUnauthorized {
					w.Header().Set("WWW-Authenticate", "Bearer")
				}
				http.Error(w, http.StatusText(status)+": expected the token of an account that may get the non-resource URL /metrics", status)
				return
			}
		}
		content, kind, err := ask(r.Context(), gate, r.Header.Get("Accept"))
		if err != nil {
			http.Error(w, "the gate does not answer", http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(content) // who asked went away: it sees that itself
	})
	server := &http.Server{Handler: mux, ReadTimeout: patience, WriteTimeout: 3 * patience, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ask gets the gate's metrics, and what form they have.
func ask(ctx context.Context, gate *http.Client, accept string) (content []byte, kind string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gate/metrics", nil)
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Accept", accept)
	response, err := gate.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	content, err = io.ReadAll(io.LimitReader(response.Body, maxMetrics+1))
	switch {
	case err != nil:
	case response.StatusCode != http.StatusOK:
		err = errors.New(response.Status)
	case len(content) > maxMetrics:
		err = errors.New("too much")
	}
	return content, response.Header.Get("Content-Type"), err
}
