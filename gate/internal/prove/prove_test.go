package prove

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"countersign/gate/internal/code"
)

func TestAGateThatRefusesTheCanaryIsProven(t *testing.T) {
	n := newNode(t)
	receipt := n.proven(t, Config{})
	want := []Refusal{{Layer: "pull", By: "gate", Reason: "UNSIGNED"}, {"create", "kata", "gate", "UNSIGNED"}, {"create", "runc", "gate", "UNSIGNED"}}
	slices.SortFunc(receipt.Refused, func(a, b Refusal) int { return strings.Compare(a.Handler, b.Handler) })
	if !reflect.DeepEqual(receipt.Refused, want) || !receipt.Holds() {
		t.Errorf("got %+v", receipt)
	}
	if receipt.Policy != (Policy{"sha256:in-force", 7}) || receipt.Runtime != (Runtime{"containerd", "v2.4.2"}) || !strings.HasPrefix(receipt.Canary, Repository+"@sha256:") {
		t.Errorf("got %+v", receipt)
	}
	if receipt.Proven.Allow || len(receipt.Notes) != 1 || !strings.HasPrefix(receipt.Notes[0], NotAllowed) {
		t.Errorf("there is no image to allow, and the receipt says %+v, %q", receipt.Proven, receipt.Notes)
	}
}

func TestWhatIsNotRefusedByTheGateForTheRightReasonFails(t *testing.T) {
	other := func(c code.Code) error { return refuse(Reference, c) }
	for _, test := range []struct {
		name         string
		pull, start  error // of the canary; the start's under kata
		where, found string
	}{
		{"allowed at pull", nil, other(code.Unsigned), "pull of " + Reference, "allowed"},
		{"allowed under one handler", other(code.Unsigned), nil, "start of " + Reference + " under the handler kata", "allowed"},
		{"in no scope", other(code.Unsigned), other(code.NoScope), "under the handler kata", "NO_SCOPE"},
		{"a gate that refuses all", other(code.Unsigned), other(code.GateDown), "under the handler kata", "GATE_DOWN"},
		{"a registry that is not reached", other(code.RegistryError), other(code.Unsigned), "pull of", "REGISTRY_ERROR"},
		{"no sentence of the gate's", other(code.Unsigned), errors.New("UNSIGNED: no such program"), "under the handler kata", "no such program"},
		{"a reason that does not exist", other(code.Unsigned), other("NEVER"), "under the handler kata", "NEVER"},
		{"a refusal of another image", other(code.Unsigned), refuse("registry.example/app", code.Unsigned), "under the handler kata", "registry.example/app"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			n.pull = func(string) error { return test.pull }
			refuses := n.start
			n.start = func(s start) error {
				if s.handler == "kata" {
					return test.start
				}
				return refuses(s)
			}
			receipt := n.proven(t, Config{})
			if receipt.Holds() || receipt.Proven.Refuse || len(receipt.Problems) != 1 {
				t.Fatalf("got %+v", receipt)
			}
			if one := receipt.Problems[0]; !strings.Contains(one.Where, test.where) || !strings.Contains(one.Found, test.found) {
				t.Errorf("got %+v", one)
			}
		})
	}
}

func TestAHandlerThatMakesNoPodIsNotProven(t *testing.T) {
	n := newNode(t)
	n.sandbox = func(handler string) error {
		if handler == "kata" {
			return errors.New("no such runtime")
		}
		return nil
	}
	receipt := n.proven(t, Config{})
	if receipt.Holds() || len(receipt.Problems) != 1 || !strings.HasPrefix(receipt.Problems[0].Found, "could not be tried: ") {
		t.Errorf("got %+v", receipt)
	}
}

func TestAKubeletThatRemovesAPodIsOutlived(t *testing.T) {
	n := newNode(t)
	refuses, before := n.start, map[string]bool{}
	n.start = func(s start) error {
		if !before[s.handler] {
			before[s.handler] = true
			return status.Error(codes.NotFound, "sandbox not found")
		}
		return refuses(s)
	}
	if receipt := n.proven(t, Config{}); !receipt.Holds() {
		t.Errorf("got %+v", receipt)
	}
}

func TestARefusalByTheGateIsNotTriedAgain(t *testing.T) {
	n := newNode(t)
	tried := map[string]int{}
	n.start = func(s start) error {
		tried[s.handler]++
		return errors.New("validation failed: countersign: refused container 1a2b: GATE_DOWN: without the hook")
	}
	if receipt := n.proven(t, Config{}); receipt.Holds() || len(receipt.Problems) != 2 {
		t.Errorf("got %+v", receipt)
	}
	if tried["runc"] != 1 || tried["kata"] != 1 {
		t.Errorf("got %v", tried)
	}
}

func TestAnImageThatIsThereIsAllowed(t *testing.T) {
	signed, pinned := "registry.example/signed/app@sha256:"+strings.Repeat("b", 64), "registry.example/pause@"+pinnedDigest
	for _, test := range []struct {
		name    string
		images  []string
		refused string
		allowed string // "" for none
		rule    string
		holds   bool
	}{
		{"signed first", []string{pinned, signed}, "", signed, "anyOf(team)", true},
		{"then pinned", []string{pinned, signed}, signed, pinned, "pinned", true},
		{"accepted", []string{"registry.example/open/x@" + pinnedDigest[:70] + "b"}, "", "registry.example/open/x@" + pinnedDigest[:70] + "b", "accept", true},
		{"what is there may be unsigned", []string{signed}, signed, "", "", true},
		{"what is pinned may not be refused", []string{pinned}, pinned, "", "", false},
		{"what is in no scope is not tried", []string{"registry.example/other@" + pinnedDigest[:70] + "b"}, "", "", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			refuses := n.start
			n.start = func(s start) error {
				if s.image == test.refused {
					return refuse(s.image, code.BadSignature)
				}
				return refuses(s)
			}
			for _, name := range test.images {
				n.images[name] = "id of " + name
			}
			receipt := n.proven(t, Config{})
			if receipt.Holds() != test.holds || receipt.Proven.Allow != (test.allowed != "") {
				t.Fatalf("got %+v", receipt)
			}
			for _, one := range receipt.Allowed {
				if one.Image != test.allowed || one.Rule != test.rule {
					t.Errorf("got %+v", one)
				}
			}
			for _, one := range n.started {
				if one.program != n.gate.Containerd.Hook {
					t.Errorf("a program of the image's own was started: %+v", one)
				}
			}
			if len(n.images) != len(test.images) {
				t.Errorf("got %v", n.images)
			}
		})
	}
}

func TestAPodIsRemovedAtAnotherTry(t *testing.T) {
	n := newNode(t)
	n.busy = true
	if receipt := n.proven(t, Config{}); !receipt.Holds() || n.busy || len(n.pods) != 0 {
		t.Errorf("got %+v, pods %v", receipt, n.pods)
	}
}

// A runtime makes a folder of a mount that is not there, and the hook could not come back.
func TestNoFolderTakesTheHooksPlace(t *testing.T) {
	for name, c := range map[string]struct {
		gone  func(start) bool
		holds bool
	}{
		"it stays":              {func(start) bool { return false }, true},
		"gone before the start": {func(s start) bool { return ours(s.image) }, false},
		"gone in the start":     {func(s start) bool { return !ours(s.image) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.images["registry.example/pause@"+pinnedDigest] = "pause"
			refuses := n.start
			n.start = func(s start) error {
				if c.gone(s) {
					_ = os.Remove(n.gate.Containerd.Hook)
				}
				if _, err := os.Stat(s.program); s.program != "" && errors.Is(err, os.ErrNotExist) {
					return os.MkdirAll(s.program, 0o755)
				}
				return refuses(s)
			}
			receipt := n.proven(t, Config{})
			info, err := os.Lstat(n.gate.Containerd.Hook)
			if c.holds != (err == nil) || err == nil && info.IsDir() {
				t.Errorf("got %v, %v: %+v", info, err, receipt)
			}
		})
	}
}

func TestANamedImageHasToBeAllowed(t *testing.T) {
	const name = "registry.example/signed/app:1"
	for _, test := range []struct {
		name  string
		there bool
		pull  error
		start error
		holds bool
	}{
		{"allowed", false, nil, nil, true},
		{"allowed, and there before", true, nil, nil, true},
		{"refused at pull", false, refuse(name, code.BadSignature), nil, false},
		{"refused at start", false, nil, refuse(name, code.BadSignature), false},
		{"not to be had", false, errors.New("no such host"), nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t)
			refuses, start0 := n.pull, n.start
			n.pull = func(one string) error {
				if one == name {
					return test.pull
				}
				return refuses(one)
			}
			n.start = func(s start) error {
				if s.image == name {
					return test.start
				}
				return start0(s)
			}
			if test.there {
				n.images[name] = "id of " + name
			}
			receipt := n.proven(t, Config{Image: name})
			if receipt.Holds() != test.holds || receipt.Proven.Allow != test.holds || !receipt.Holds() && len(receipt.Problems) == 0 {
				t.Errorf("got %+v", receipt)
			}
			if _, left := n.images[name]; left != test.there {
				t.Errorf("there before: %v, there afterwards: %v", test.there, left)
			}
			if test.holds && receipt.Allowed[0] != (Allowed{Layer: "pull", Image: name, Rule: "anyOf(team)"}) {
				t.Errorf("got %+v", receipt.Allowed)
			}
		})
	}
}

func TestWhatAKilledProofLeftIsTakenBack(t *testing.T) {
	n := newNode(t)
	n.images[Repository+"@"+pinnedDigest], n.pods["left"], n.leases[lease] = "old", "runc", true
	if receipt := n.proven(t, Config{}); !receipt.Holds() {
		t.Errorf("got %+v", receipt)
	}
}

func TestAnInterruptedProofTakesEverythingBack(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	n.start = func(start) error {
		cancel()
		return errors.New("interrupted")
	}
	c := Config{Gate: n.gate, listen: func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }}
	if receipt, err := Run(ctx, c); err == nil || !strings.HasPrefix(err.Error(), "interrupted") {
		t.Errorf("got %+v, %v", receipt, err)
	}
	n.clean(t)
}

func TestCRIOsOwnEngineHasToRefuseAtPull(t *testing.T) {
	for _, test := range []struct {
		name  string
		pull  error
		holds bool
	}{
		{"refused", errors.New("SignatureValidationFailed: no signature exists"), true},
		{"allowed", nil, false},
		{"not reached", errors.New("connection refused"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, certs := newNode(t), filepath.Join(t.TempDir(), "certs.d")
			n.asCrio()
			ca := filepath.Join(certs, Registry, "ca.crt")
			n.pull = func(name string) error {
				if _, err := os.Stat(ca); err != nil {
					t.Errorf("without its CA, CRI-O cannot pull: %v", err)
				}
				if strings.HasPrefix(name, Refused) {
					return test.pull
				}
				return nil
			}
			receipt := n.proven(t, Config{Certs: certs})
			if receipt.Holds() != test.holds {
				t.Errorf("got %+v", receipt)
			}
			if test.holds && receipt.Refused[0] != (Refusal{Layer: "pull", By: "crio", Reason: "SignatureValidationFailed"}) {
				t.Errorf("got %+v", receipt.Refused)
			}
			if _, err := os.Stat(certs); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", certs, err)
			}
		})
	}
}

func TestMirrorsForAllRegistriesAreNotAskedForTheCanary(t *testing.T) {
	n := newNode(t)
	dir := n.gate.Registry.CertsDir
	if err := os.MkdirAll(filepath.Join(dir, "_default"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "127.67.83.71_871_", "hosts.toml")
	seen := false
	n.pull = func(name string) error {
		_, err := os.Stat(file)
		seen = err == nil
		return refuse(name, code.Unsigned)
	}
	if receipt := n.proven(t, Config{}); !receipt.Holds() || !seen {
		t.Errorf("hosts.toml was seen: %v; got %+v", seen, receipt)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v", left, err)
	}
}

func TestNothingIsTriedWithoutAGateOrHandlers(t *testing.T) {
	n := newNode(t)
	n.handlers = []string{""}
	if _, err := n.run(t, Config{}); err == nil || !strings.Contains(err.Error(), "no runtime handler") {
		t.Errorf("got %v", err)
	}
	n.gate.Socket += ".none"
	if _, err := n.run(t, Config{}); err == nil || !strings.Contains(err.Error(), "the gate at "+n.gate.Socket) {
		t.Errorf("got %v", err)
	}
}

func TestTheCanaryIsServedForReadingOnly(t *testing.T) {
	n := newNode(t)
	one, err := newImage(n.gate.Containerd.Hook)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newImage(n.gate.Containerd.Hook)
	if err != nil || other.manifest.descriptor.Digest == one.manifest.descriptor.Digest {
		t.Errorf("two canaries are the same image: %v", err)
	}
	certificate, ca, err := identity(Registry)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	parsed, err := x509.ParseCertificate(certificate.Certificate[0])
	if err == nil {
		_, err = parsed.Verify(x509.VerifyOptions{Roots: pool, DNSName: "127.67.83.71"})
	}
	if err != nil {
		t.Errorf("the certificate: %v", err)
	}
	server := newTLSServer(t, handler(one), *certificate)
	for path, want := range map[string]int{
		"GET /v2/": 200, "GET /v2/countersign/canary/manifests/unsigned": 200, "HEAD /v2/countersign/refused/manifests/unsigned": 200,
		"GET /v2/countersign/canary/blobs/" + one.parts[1].descriptor.Digest.String():     200,
		"GET /v2/countersign/canary/referrers/" + one.manifest.descriptor.Digest.String(): 200,
		"GET /v2/countersign/canary/manifests/sha256-0.sig":                               404,
		"PUT /v2/countersign/canary/manifests/unsigned":                                   405,
		"POST /v2/countersign/canary/blobs/uploads/":                                      405,
		"DELETE /v2/countersign/canary/blobs/" + one.parts[1].descriptor.Digest.String():  405,
		"GET /v2/countersign/canary/blobs/" + other.parts[0].descriptor.Digest.String():   404,
	} {
		if got := server(path); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
}

func TestASecondProofWaitsForTheFirst(t *testing.T) {
	n := newNode(t)
	taken := 0
	c := Config{Gate: n.gate, listen: func() (net.Listener, error) {
		if taken++; taken < 3 {
			return nil, unix.EADDRINUSE
		}
		return net.Listen("tcp", "127.0.0.1:0")
	}}
	if receipt, err := Run(t.Context(), c); err != nil || !receipt.Holds() {
		t.Errorf("got %+v, %v", receipt, err)
	}
	c.listen = func() (net.Listener, error) { return nil, unix.EACCES }
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "cannot be served at "+Registry) {
		t.Errorf("got %v", err)
	}
}
