// Command registry is the demo's registry with the referrers API.
//
//	registry --address 127.0.0.1:PORT --dir FOLDER [--tls-address IP:PORT --certificate FILE --key FILE]
//
// It has no users, so it serves on loopback only; in a container, whose network decides who
// reaches it, --any-address lifts that. It speaks plain HTTP, and on another address TLS, for clients
// that read bundles over nothing else (Kyverno).
//
// It is go-containerregistry's own handler (what `crane registry serve` runs), which that
// command serves without the referrers API and with manifests in memory only. Here the API is
// on, and manifests outlive a restart: every change of one is a line in FOLDER/manifests.jsonl,
// replayed at start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address := flag.String("address", "", "loopback address and port to serve on")
	anyAddress := flag.Bool("any-address", false, "also serve on addresses that are not loopback")
	dir := flag.String("dir", "", "folder for blobs and manifests")
	var secure secureAddress
	flag.StringVar(&secure.address, "tls-address", "", "address and port to serve TLS on, too")
	flag.StringVar(&secure.certificate, "certificate", "", "PEM file of the certificate for TLS")
	flag.StringVar(&secure.key, "key", "", "PEM file of its key")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *address, secure, *anyAddress, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

// secureAddress is where TLS is served, and with what; an empty address means nowhere.
type secureAddress struct{ address, certificate, key string }

func serve(ctx context.Context, address string, secure secureAddress, anyAddress bool, dir string) error {
	if dir == "" {
		return errors.New("--dir is missing")
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs"), 0o700); err != nil {
		return err
	}
	handler := registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(filepath.Join(dir, "blobs"))),
		registry.WithReferrersSupport(true),
		registry.Logger(log.New(io.Discard, "", 0)),
	)
	kept, err := open(filepath.Join(dir, "manifests.jsonl"), handler)
	if err != nil {
		return err
	}
	defer kept.file.Close()
	server := &http.Server{Handler: kept, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	listener, err := listen("--address", address, anyAddress)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	if secure.address != "" {
		listener, err := listen("--tls-address", secure.address, anyAddress)
		if err != nil {
			return err
		}
		go func() { ended <- server.ServeTLS(listener, secure.certificate, secure.key) }()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listen opens an address, which must be loopback's unless any will do.
func listen(option, address string, anyAddress bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !anyAddress && !ip.IsLoopback() {
		return nil, fmt.Errorf("%s %q is not a loopback address with a port", option, address)
	}
	return net.Listen("tcp", address)
}
