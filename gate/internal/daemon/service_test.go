package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/verdict"
)

// manager is a service manager's notification socket.
func manager(t *testing.T) (getenv func(string) string, next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	environment := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "90000"}
	return func(name string) string { return environment[name] }, func() string {
		buffer := make([]byte, 1000)
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := conn.Read(buffer)
		if err != nil {
			return err.Error()
		}
		return string(buffer[:n])
	}
}

func TestNotifier(t *testing.T) {
	getenv, next := manager(t)
	n := NewNotifier(getenv)
	n.Ready()
	n.Reloading()
	n.Stopping()
	if got := next(); got != "READY=1" {
		t.Errorf("got %q", got)
	}
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("got %q", got)
	}
	if got := next(); got != "STOPPING=1" {
		t.Errorf("got %q", got)
	}
	NewNotifier(func(string) string { return "" }).Ready() // no manager: nothing happens
}

func TestWatchdogIsFedOnlyWhileTheGateAnswers(t *testing.T) {
	getenv, next := manager(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go NewNotifier(getenv).Watch(ctx, func(context.Context) error { return nil })
	if got := next(); got != "WATCHDOG=1" {
		t.Errorf("alive: got %q", got)
	}
	getenv, next = manager(t)
	go NewNotifier(getenv).Watch(ctx, func(context.Context) error { return errors.New("hung") })
	if got := next(); !strings.Contains(got, "timeout") {
		t.Errorf("hung: got %q", got)
	}
}

func TestWatchdogOfAnotherProcessIsNotOurs(t *testing.T) {
	n := NewNotifier(func(name string) string {
		return map[string]string{"WATCHDOG_USEC": "90000", "WATCHDOG_PID": "1"}[name]
	})
	if n.interval != 0 {
		t.Errorf("interval %s", n.interval)
	}
}

func TestLogIsOnePrivateLinePerVerdict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "verdicts.jsonl")
	log, err := OpenLog(path, 1<<20, 3)
	if err != nil {
		t.Fatal(err)
	}
	v := &verdict.Verdict{Version: verdict.Version, Layer: verdict.Create, Code: code.Unsigned, Message: "a\nb", Steps: []verdict.Step{{Name: "x"}}}
	log.Write(v)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := log.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Write(v)
	log.Write(v)
	for name, lines := range map[string]int{path + ".1": 1, path: 2} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got verdict.Verdict
		if err := json.Unmarshal(content[:strings.Index(string(content), "\n")], &got); err != nil || got.Code != code.Unsigned || got.Steps != nil {
			t.Errorf("got %+v, %v", got, err)
		}
		if strings.Count(string(content), "\n") != lines {
			t.Errorf("%s: %q", name, content)
		}
		if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
			t.Errorf("mode %o", info.Mode().Perm())
		}
	}
}

func TestMetrics(t *testing.T) {
	log, err := OpenLog(filepath.Join(t.TempDir(), "verdicts.jsonl"), 1<<20, 3)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMetrics("1.2.3", func() (int64, int) { return 4711, 2 })
	o := Observer{log, m}
	o.Verdict(&verdict.Verdict{Layer: verdict.Create, Code: code.Unsigned, Millis: 3})
	o.Verification()
	path := filepath.Join(t.TempDir(), "metrics.sock")
	listener, err := ListenMetrics("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, listener) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	response, err := client.Get("http://gate/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`countersign_verdicts_total{code="UNSIGNED",layer="create"} 1`,
		`countersign_verdict_seconds_bucket{layer="create",le="0.003"} 1`,
		`countersign_verdict_seconds_bucket{layer="create",le="0.002"} 0`,
		"countersign_verifications_total 1", "countersign_policy_valid 0", "countersign_evidence_bytes 4711", "countersign_evidence_entries 2",
	} {
		if !strings.Contains(string(content), line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %o", info.Mode().Perm())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if none, err := ListenMetrics(""); none != nil || err != nil {
		t.Errorf("got %v, %v", none, err)
	}
}
