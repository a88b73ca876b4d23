package externaldata

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/netutil"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/clean"
	"countersign/gate/internal/code"
)

// Path is where Gatekeeper asks.
const Path = "/validate"

// Bounds of the server.
const (
	maxConnections = 256
	maxRequests    = 64 // at once; others are answered that there are too many
	transfer       = 3 * time.Second
	idle           = 90 * time.Second // as Gatekeeper's client has it
	maxHeader      = 16 << 10
	maxPEM         = 1 << 20 // bytes of each of its files
)

// Config is what a server needs.
type Config struct {
	Engine Engine
	Budget time.Duration // of one request
	Keep   time.Duration // how long an answer that allows may be given again; 0: never

	Cert, Key  string // files of its own certificate
	ClientCA   string // file of the CA of whoever may ask
	ClientName string // DNS name in their certificate
}

// Server answers Gatekeeper.
type Server struct {
	config   Config
	verdicts *verdicts
	busy     chan struct{}
}

// New makes a server.
//
// It returns an error when its files do not make a TLS server.
func New(config Config) (*Server, error) {
	s := &Server{config: config, verdicts: newVerdicts(config.Engine, config.Keep), busy: make(chan struct{}, maxRequests)}
	if config.ClientName == "" {
		return nil, errors.New("no name that a client's certificate must have")
	}
	_, err := s.settings()
	return s, err
}

// Serve answers until the context ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelInfo),
		ReadHeaderTimeout: transfer, ReadTimeout: transfer, WriteTimeout: 2*transfer + s.config.Budget, IdleTimeout: idle,
	}
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		drain, cancel := context.WithTimeout(context.Background(), s.config.Budget)
		defer cancel()
		_ = server.Shutdown(drain) // who is not answered by then is refused
	})
	secured := tls.NewListener(netutil.LimitListener(listener, maxConnections), &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.settings() },
	})
	err := server.Serve(secured)
	if errors.Is(err, http.ErrServerClosed) {
		<-drained
		return nil
	}
	stop()
	return err
}

// settings reads the files for one connection: Gatekeeper exchanges its certificates,
// and whoever lies there now is who may ask.
func (s *Server) settings() (*tls.Config, error) {
	own, err := s.keyPair()
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	pem, err := bounded.File(s.config.ClientCA, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("the clients' CA: %w", err)
	}
	known := x509.NewCertPool()
	if !known.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the clients' CA: %s: no certificate in PEM", s.config.ClientCA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, NextProtos: []string{"http/1.1"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known, SessionTicketsDisabled: true,
		VerifyConnection: s.named,
	}, nil
}

func (s *Server) keyPair() (own tls.Certificate, err error) {
	certificate, err := bounded.File(s.config.Cert, maxPEM)
	if err != nil {
		return own, err
	}
	key, err := bounded.File(s.config.Key, maxPEM)
	if err != nil {
		return own, err
	}
	return tls.X509KeyPair(certificate, key)
}

// named refuses a client whose certificate is the CA's, and somebody else's.
func (s *Server) named(state tls.ConnectionState) error {
	if slices.Contains(state.PeerCertificates[0].DNSNames, s.config.ClientName) {
		return nil
	}
	return fmt.Errorf("a client that is not %s", s.config.ClientName)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, answered := http.StatusOK, response{}
	switch images, err := s.asked(w, r, &status); {
	case err != nil:
		answered = unanswered(err)
		slog.Warn("not answered", "client", r.RemoteAddr, "why", clean.Line(err.Error(), maxReason))
	default:
		answered, err = s.answer(r.Context(), images)
		if err != nil {
			status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answered); err != nil {
		slog.Info("answer not sent", "client", r.RemoteAddr, "error", err)
	}
}

// asked reads what a request is about; status is set where that fails.
func (s *Server) asked(w http.ResponseWriter, r *http.Request, status *int) ([]string, error) {
	refuse := func(with int, found string) error {
		*status = with
		return code.Refuse(code.Malformed, found, "POST "+Path+" with at most "+fmt.Sprint(maxBody)+" bytes", "ask as Gatekeeper does")
	}
	switch {
	case r.URL.Path != Path:
		return nil, refuse(http.StatusNotFound, "another path")
	case r.Method != http.MethodPost:
		return nil, refuse(http.StatusMethodNotAllowed, "another method")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the request is not to be read: "+err.Error())
	}
	keys, err := readKeys(body)
	if err != nil {
		*status = http.StatusBadRequest
	}
	return keys, err
}

// answer judges, unless enough others are being answered.
func (s *Server) answer(ctx context.Context, images []string) (response, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		err := code.Refuse(code.Timeout, fmt.Sprintf("%d requests are being answered", maxRequests), "fewer", "try again")
		return unanswered(err), err
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Budget)
	defer cancel()
	return response{apiVersion, kindResponse, answer{Items: s.verdicts.on(ctx, images)}}, nil
}
