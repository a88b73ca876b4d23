package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"countersign/gate/internal/config"
	"countersign/gate/internal/verdict"
)

const somePolicy = `{"version":"countersign.policy/v1","roots":{},"scopes":{%s},"pinned":[],"revoked":{"keys":[],"certificates":[],"digests":[]}}`

// observes has this program stand for a gate that observes: it logs one verdict, and goes
// on until it is told to end.
func observes(config string) {
	content, err := os.ReadFile(config)
	var settings struct {
		Log      string
		Registry struct{ DockerConfig string }
	}
	if err == nil {
		err = json.Unmarshal(content, &settings)
	}
	if err == nil && settings.Registry.DockerConfig == "" {
		fmt.Fprintln(os.Stderr, "starting\nerror: observe: this node has the hook")
		os.Exit(4)
	}
	if err == nil {
		line := fmt.Sprintf(`{"version":%q,"image":"r/a:1"}`+"\n", verdict.Version)
		err = os.WriteFile(settings.Log, []byte(line), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
	os.Exit(0)
}

func newObserver(t *testing.T) *Observer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Observer{
		Root: t.TempDir(), Program: self, Logins: []byte("{}"), Stderr: &bytes.Buffer{},
		Runtime: func(context.Context) (string, map[string]any, error) {
			return "crio", map[string]any{"socket": "/run/o.sock"}, nil
		},
	}
}

func content(scopes string) Policy { return Policy{Content: fmt.Appendf(nil, somePolicy, scopes)} }

func TestAnObserverJudgesAndLeavesNothingBehind(t *testing.T) {
	o := newObserver(t)
	folder := filepath.Join(o.Root, observing)
	if err := o.Observe(context.Background(), content("")); err != nil {
		t.Fatal(err)
	}
	seen, err := o.Seen()
	if err != nil || len(seen) != 1 || seen[0].Image != "r/a:1" {
		t.Errorf("%v: saw %v", err, seen)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700 | os.ModeDir, "docker.json": 0o600, "gate.json": 0o600} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", name, err, info)
		}
	}
	if settings, err := config.Load(filepath.Join(folder, "gate.json")); err != nil || settings.Crio == nil || settings.Crio.Socket != "/run/o.sock" {
		t.Errorf("it asks another runtime than the node's: %v", err)
	}
	before := o.child.command.Process.Pid
	if err := o.Observe(context.Background(), content(`"r.test":{"accept":true}`)); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(filepath.Join(folder, "policy.json")); err != nil || !strings.Contains(string(now), "r.test") || o.child.command.Process.Pid != before {
		t.Errorf("a new policy: %v, %s", err, now)
	}
	if err := o.Observe(context.Background(), Policy{Content: []byte("{}")}); err == nil || !strings.Contains(err.Error(), "POLICY_INVALID") || o.child == nil {
		t.Errorf("a policy that is not valid ends it: %v", err)
	}
	if err := o.StopObserving(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(before, 0); err == nil {
		t.Error("it goes on")
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

func TestAnObserverOfARuntimeThatIsNotKnownIsTriedAgain(t *testing.T) {
	o := newObserver(t)
	known := o.Runtime
	o.Runtime = func(context.Context) (string, map[string]any, error) {
		return "", nil, errors.New("both answer")
	}
	if err := o.Observe(context.Background(), content("")); err == nil || !strings.Contains(err.Error(), "both answer") {
		t.Errorf("got %v", err)
	}
	o.Runtime = known
	if err := errors.Join(o.Observe(context.Background(), content("")), o.StopObserving()); err != nil {
		t.Error(err)
	}
}

func TestAnObserverThatCannotRunSaysWhyAndLeavesNothingBehind(t *testing.T) {
	for name, row := range map[string]struct {
		policy Policy
		logins []byte
		says   string
	}{
		"a policy that is not valid": {Policy{Content: []byte("{}")}, []byte("{}"), "POLICY_INVALID"},
		"a node with the hook":       {content(""), nil, "this node has the hook"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newObserver(t)
			o.Logins = row.logins
			if err := o.Observe(context.Background(), row.policy); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v, expected %q", err, row.says)
			}
			if _, err := os.Stat(filepath.Join(o.Root, observing)); !os.IsNotExist(err) {
				t.Errorf("left behind: %v", err)
			}
			o.Logins = []byte("{}")
			if err := o.Observe(context.Background(), content("")); err != nil {
				t.Errorf("twin: %v", err)
			}
			if err := o.StopObserving(); err != nil {
				t.Error(err)
			}
		})
	}
}
