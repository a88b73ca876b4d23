// Command sigstore runs one service of a private Sigstore on loopback:
//
//	sigstore fulcio     --address A --dir DIR --ct-log URL
//	sigstore timestamps --address A --dir DIR
//	sigstore rekor      --address A --dir DIR
//	sigstore issuer     --address A --dir DIR
//
// The services are Sigstore's own code, as libraries. Their own programs would listen for metrics on every
// address of the machine, at a port that two of them have fixed; these here open their one address, which
// must be loopback's. Files in DIR have fixed names; keys are PEM without a password (the folder is its owner's
// alone), so that no password has to be on a command line.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

// options is what a service is told.
type options struct {
	address netip.AddrPort // where to serve
	dir     string         // the service's files
	ctLog   string         // fulcio: URL of the log of certificates
}

// path returns a file of the service.
func (o options) path(name string) string { return filepath.Join(o.dir, name) }

var services = map[string]func(options) error{
	"fulcio":     serveFulcio,
	"timestamps": serveTimestamps,
	"rekor":      serveRekor,
	"issuer":     serveIssuer,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sigstore:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) == 0 || services[words[0]] == nil {
		return fmt.Errorf("got %q, expected fulcio, timestamps, rekor or issuer", words)
	}
	set := flag.NewFlagSet(words[0], flag.ContinueOnError)
	address := set.String("address", "", "loopback address and port to serve on")
	var given options
	set.StringVar(&given.dir, "dir", "", "folder of the service's files")
	set.StringVar(&given.ctLog, "ct-log", "", "fulcio: URL of the log of certificates")
	if err := set.Parse(words[1:]); err != nil {
		return err
	}
	var err error
	if given.address, err = loopback(*address); err != nil {
		return err
	}
	return services[words[0]](given)
}

// loopback reads an address that nobody outside of this machine reaches.
func loopback(text string) (netip.AddrPort, error) {
	found, err := netip.ParseAddrPort(text)
	if err != nil || !found.Addr().IsLoopback() {
		return found, fmt.Errorf("--address %q is not a loopback address with a port", text)
	}
	return found, nil
}

func listen(at netip.AddrPort) (net.Listener, error) { return net.Listen("tcp", at.String()) }
