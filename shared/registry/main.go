// Command registry is the demo's registry with the referrers API.
//
//	registry --address 127.0.0.1:PORT --dir FOLDER
//
// It has no users and no TLS, so it serves on loopback only; in a container, whose network decides who
// reaches it, --any-address lifts that.
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
	anyAddress := flag.Bool("any-address", false, "also serve on an address that is not loopback")
	dir := flag.String("dir", "", "folder for blobs and manifests")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *address, *anyAddress, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, address string, anyAddress bool, dir string) error {
	if dir == "" {
		return errors.New("--dir is missing")
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !anyAddress && !ip.IsLoopback() {
		return fmt.Errorf("--address %q is no loopback address with a port", address)
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
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: kept, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
