package daemon

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"countersign/gate/internal/policy"
)

// holder is what an engine is to a watcher.
type holder struct {
	mu      sync.Mutex
	policy  *policy.Policy
	refused error
	set     int
}

func (h *holder) SetPolicy(p *policy.Policy) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.policy, h.refused = p, nil
	h.set++
}

func (h *holder) RefuseAll(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.policy == nil {
		h.refused = why
	}
}

func (h *holder) PolicyHash() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.policy == nil {
		return ""
	}
	return h.policy.Hash
}

// accepting is a policy with one scope, as it lies on a node.
func accepting(t *testing.T, scope string) []byte {
	t.Helper()
	content, err := json.Marshal(map[string]any{
		"version": policy.Version, "roots": map[string]any{}, "pinned": []string{},
		"scopes":  map[string]any{scope: map[string]any{"accept": true}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

type watched struct {
	*holder
	*Watcher
	path    string
	metrics *Metrics
	reload  chan struct{}
}

func watch(t *testing.T, path string, content []byte) *watched {
	t.Helper()
	if content != nil {
		write(t, path, content)
	}
	w := &watched{holder: &holder{}, path: path, metrics: NewMetrics("1.2.3", func() (int64, int) { return 0, 0 }), reload: make(chan struct{})}
	w.Watcher = NewWatcher(policy.File{Path: path, Mark: filepath.Join(filepath.Dir(path), "mark.json")}, w.holder, w.metrics, &Notifier{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Watcher.Watch(ctx, w.reload) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// write replaces a file by renaming, as the project's own set-up does.
func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// valid reads the gauge countersign_policy_valid.
func (w *watched) valid(t *testing.T) float64 {
	t.Helper()
	var m dto.Metric
	if err := w.metrics.policyValid.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (w *watched) inForce(t *testing.T, content []byte) func() bool {
	t.Helper()
	p, err := policy.Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	return func() bool { return w.PolicyHash() == p.Hash }
}

func TestPolicyIsReloaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	first, second, third := accepting(t, "a.example"), accepting(t, "b.example"), accepting(t, "c.example")
	w := watch(t, path, first)
	if !w.inForce(t, first)() {
		t.Fatal("the first policy is not in force when the watcher is made")
	}
	write(t, path, second)
	eventually(t, "replaced by rename", w.inForce(t, second))
	if err := os.WriteFile(path, third, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "written in place", w.inForce(t, third))
	if got := w.valid(t); got != 1 {
		t.Errorf("policy_valid is %v", got)
	}
}

func TestInvalidPolicyChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	good, better := accepting(t, "a.example"), accepting(t, "b.example")
	w := watch(t, path, good)
	invalid := func() bool { return w.valid(t) == 0 }
	for _, bad := range []string{"", "{", `{"version":"countersign.policy/v9"}`} {
		write(t, path, []byte(bad))
		eventually(t, "told as invalid", invalid)
		if !w.inForce(t, good)() {
			t.Fatalf("%q is in force", bad)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * settle)
	if !w.inForce(t, good)() || !invalid() {
		t.Error("removing the file changed what is in force")
	}
	write(t, path, better)
	eventually(t, "a valid one again", w.inForce(t, better))
	eventually(t, "told as valid", func() bool { return !invalid() })
}

func TestInvalidPolicyAtStartLeavesEverythingRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	w := watch(t, path, []byte("{"))
	w.mu.Lock()
	if w.policy != nil || w.refused == nil {
		t.Errorf("got %+v", w.holder)
	}
	w.mu.Unlock()
	good := accepting(t, "a.example")
	write(t, path, good)
	eventually(t, "a valid one", w.inForce(t, good))
}

func TestPolicyIsReloadedBySignal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "policy.json") // no folder to watch
	w := watch(t, path, nil)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	good := accepting(t, "a.example")
	write(t, path, good)
	w.reload <- struct{}{}
	eventually(t, "reloaded", w.inForce(t, good))
}

func TestUnchangedPolicyIsNotSetAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	good := accepting(t, "a.example")
	w := watch(t, path, good)
	write(t, path, good)
	w.reload <- struct{}{}
	time.Sleep(3 * settle)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set != 1 {
		t.Errorf("set %d times", w.set)
	}
}

func TestBusyFolderDoesNotPutReloadOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	w := watch(t, path, accepting(t, "a.example"))
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(settle / 10):
				_ = os.WriteFile(path+".log", []byte{byte(i)}, 0o600)
			}
		}
	}()
	next := accepting(t, "b.example")
	write(t, path, next)
	start := time.Now()
	eventually(t, "in force", w.inForce(t, next))
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func TestPolicyBehindALinkIsReloaded(t *testing.T) {
	dir := t.TempDir()
	first, second := accepting(t, "a.example"), accepting(t, "b.example")
	for name, content := range map[string][]byte{"..1": first, "..2": second} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "policy.json"), content)
	}
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	link("..data/policy.json", "policy.json")
	w := watch(t, filepath.Join(dir, "policy.json"), nil)
	if !w.inForce(t, first)() {
		t.Fatal("the first is not in force")
	}
	link("..2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	eventually(t, "the second", w.inForce(t, second))
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
}
