package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
)

// hook is the binary under test: what counts is what the runtime sees.
var hook string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hook")
	if err != nil {
		panic(err)
	}
	hook = filepath.Join(dir, "countersign-hook")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", hook, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	status := m.Run()
	_ = os.RemoveAll(dir) // a leftover in the temporary folder harms nobody
	os.Exit(status)
}

const state = `{"ociVersion":"1.2.0","id":"abc","annotations":{"io.kubernetes.cri.image-name":"registry.example/app:v1"}}`

// run executes the hook and returns its exit code and stderr.
func run(t *testing.T, stdin io.Reader, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command(hook, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	if err := cmd.Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// gate serves one connection with a function and returns its socket.
func gate(t *testing.T, serve func(conn *net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gate.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn)
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return path
}

// answering reads the whole request and answers it.
func answering(answer string) func(*net.UnixConn) {
	return func(conn *net.UnixConn) {
		_, _ = io.ReadAll(conn)
		_, _ = io.WriteString(conn, answer)
	}
}

func TestBinaryIsSmall(t *testing.T) {
	info, err := os.Stat(hook)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 3<<20 {
		t.Errorf("%d bytes, expected 3 MiB at most", info.Size())
	}
}

func TestSendsTheStateAsItIs(t *testing.T) {
	var got []byte
	path := gate(t, func(conn *net.UnixConn) {
		got, _ = io.ReadAll(conn)
		_, _ = io.WriteString(conn, "allow OK\nfine\n{}\n")
	})
	if status, stderr := run(t, strings.NewReader(state), "--socket", path); status != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", status, stderr)
	}
	if string(got) != "create\n"+state {
		t.Errorf("the gate got %q", got)
	}
}

func TestAllowsOnlyKnownAllowingCodes(t *testing.T) {
	for _, c := range code.All {
		for _, word := range []string{"allow", "refuse"} {
			path := gate(t, answering(fmt.Sprintf("%s %s\ncountersign: sentence\n{}\n", word, c)))
			status, stderr := run(t, strings.NewReader(state), "--socket", path)
			if want := word == "allow" && c.Allows(); (status == 0) != want {
				t.Errorf("%s %s: exit %d, %q", word, c, status, stderr)
			}
		}
	}
}

func TestRefusalIsTheGatesSentence(t *testing.T) {
	path := gate(t, answering("refuse UNSIGNED\ncountersign: refused app: UNSIGNED: \x1b[31mfo\u202eund\n{}\n"))
	status, stderr := run(t, strings.NewReader(state), "--socket", path)
	if status != 1 || stderr != `countersign: refused app: UNSIGNED: \u001b[31mfo\u202eund`+"\n" {
		t.Errorf("exit %d, %q", status, stderr)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":                   "",
		"no end of line":            "allow OK",
		"half a code":               "allow O\nx\n{}\n",
		"no code":                   "allow\nx\n{}\n",
		"a code of the future":      "allow VERY_OK\nx\n{}\n",
		"a refusing code":           "allow UNSIGNED\nx\n{}\n",
		"refuse with allowing code": "refuse OK\nx\n{}\n",
		"leading blank":             " allow OK\nx\n{}\n",
		"trailing blank":            "allow OK \nx\n{}\n",
		"carriage return":           "allow OK\r\nx\n{}\n",
		"upper case":                "ALLOW OK\nx\n{}\n",
		"not the first line":        "\nallow OK\nx\n{}\n",
		"a NUL":                     "allow OK\x00\nx\n{}\n",
		"HTTP":                      "HTTP/1.1 200 OK\n\n\n",
		"noise":                     "\xff\xfe\x00\x01\n\n\n",
		"over the bound":            "allow OK\n" + strings.Repeat("x", maxAnswer) + "\n{}\n",
	} {
		t.Run(name, func(t *testing.T) {
			status, stderr := run(t, strings.NewReader(state), "--socket", gate(t, answering(answer)))
			if status != 1 || !strings.HasPrefix(stderr, "countersign: refused registry.example/app:v1: GATE_DOWN: ") {
				t.Errorf("exit %d, %q", status, stderr)
			}
			if strings.Count(stderr, "\n") != 1 {
				t.Errorf("not one line: %q", stderr)
			}
		})
	}
}

func TestGateIsDown(t *testing.T) {
	stale := filepath.Join(t.TempDir(), "stale.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	for name, path := range map[string]string{
		"no socket":    filepath.Join(t.TempDir(), "none.sock"),
		"stale socket": stale,
		"no folder":    "/nonexistent/gate.sock",
		"a file":       hook,
		"a long path":  "/" + strings.Repeat("x", 200),
		"closes":       gate(t, func(conn *net.UnixConn) {}),
	} {
		t.Run(name, func(t *testing.T) {
			status, stderr := run(t, strings.NewReader(state), "--socket", path)
			if status != 1 || !strings.Contains(stderr, ": GATE_DOWN: ") {
				t.Errorf("exit %d, %q", status, stderr)
			}
		})
	}
}

func TestHung(t *testing.T) {
	stdinRead, stdinWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	full := filepath.Join(t.TempDir(), "full.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: full, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		stdin io.Reader
		path  string
	}{
		"nobody accepts":     {strings.NewReader(state), full},
		"reads nothing":      {strings.NewReader(strings.Repeat("x", maxState)), gate(t, func(*net.UnixConn) { <-stop })},
		"answers nothing":    {strings.NewReader(state), gate(t, func(c *net.UnixConn) { _, _ = io.ReadAll(c); <-stop })},
		"answers half":       {strings.NewReader(state), gate(t, func(c *net.UnixConn) { _, _ = io.WriteString(c, "allow OK\n"); <-stop })},
		"stdin never closes": {stdinRead, full},
	}
	t.Cleanup(func() { close(stop); listener.Close(); stdinWrite.Close() }) // before the gates', which wait for it
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			status, stderr := run(t, test.stdin, "--socket", test.path)
			if status != 1 || !strings.Contains(stderr, ": TIMEOUT: ") {
				t.Errorf("exit %d, %q", status, stderr)
			}
			if took := time.Since(start); took < deadline-time.Second || took > deadline+2*time.Second {
				t.Errorf("took %s, expected %s", took, deadline)
			}
		})
	}
}

func TestStateIsBounded(t *testing.T) {
	path := gate(t, answering("allow OK\nx\n{}\n"))
	for name, stdin := range map[string]string{"empty": "", "over 1 MiB": strings.Repeat("x", maxState+1)} {
		if status, stderr := run(t, strings.NewReader(stdin), "--socket", path); status != 1 || !strings.Contains(stderr, ": MALFORMED: ") {
			t.Errorf("%s: exit %d, %q", name, status, stderr)
		}
	}
	if status, stderr := run(t, strings.NewReader(strings.Repeat("x", maxState)), "--socket", path); status != 0 {
		t.Errorf("1 MiB: exit %d, %q", status, stderr)
	}
}

func TestNoOtherArguments(t *testing.T) {
	path := gate(t, answering("allow OK\nx\n{}\n"))
	for _, args := range [][]string{
		{}, {"--socket"}, {"--socket", ""}, {"--socket=" + path}, {path},
		{"--socket", path, "--fail-open"}, {"--fail-open", "--socket", path}, {"--socket", path, "x"}, {"--help"},
	} {
		if status, stderr := run(t, strings.NewReader(state), args...); status != 1 || !strings.Contains(stderr, "GATE_DOWN") {
			t.Errorf("%q: exit %d, %q", args, status, stderr)
		}
	}
}

func TestSubjectIsForShowOnly(t *testing.T) {
	for given, want := range map[string]string{
		state: "registry.example/app:v1",
		`{"io.kubernetes.cri.image-name": "spaced"}`:            "spaced",
		`{"io.kubernetes.cri.image-name":"evil\u001b`:           `evil\u001b`,
		`{"io.kubernetes.cri.image-name":"` + "a\x1b[2J" + `"}`: `a\u001b[2J`,
		`{"io.kubernetes.cri.image-name":`:                      "",
		`{}`:                                                    "",
		`{"annotations":{"io.kubernetes.cri-o.ImageName":"registry.example/app:v2"}}`: "registry.example/app:v2",
	} {
		if got := subject([]byte(given)); got != want {
			t.Errorf("%s: got %q, expected %q", given, got, want)
		}
	}
}
