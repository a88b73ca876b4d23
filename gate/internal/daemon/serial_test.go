package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"countersign/gate/internal/policy"
)

// numbered is a policy with a serial.
func numbered(t *testing.T, serial int, scope string) []byte {
	t.Helper()
	document := map[string]any{}
	if err := json.Unmarshal(accepting(t, scope), &document); err != nil {
		t.Fatal(err)
	}
	document["serial"] = serial
	content, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// loads reads countersign_policy_loads_total.
func (w *watched) loads(t *testing.T, result string) float64 {
	t.Helper()
	var m dto.Metric
	if err := w.metrics.reloads.WithLabelValues(result).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func (w *watched) serial(t *testing.T) float64 {
	t.Helper()
	var m dto.Metric
	if err := w.metrics.policySerial.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

func TestOlderPolicyIsNotInForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	second := numbered(t, 2, "b.example")
	w := watch(t, path, second)
	if got := w.State(); got != (PolicyState{Serial: 2}) {
		t.Errorf("got %+v", got)
	}
	write(t, path, numbered(t, 1, "a.example"))
	eventually(t, "told as older", func() bool { return strings.Contains(w.State().Problem, "serial 1, and serial 2 was in force") })
	if !w.inForce(t, second)() || w.State().Serial != 2 || w.serial(t) != 2 || w.valid(t) != 0 || w.loads(t, "older") != 1 {
		t.Errorf("got %+v, in force %s", w.State(), w.PolicyHash())
	}
	third := numbered(t, 3, "c.example")
	write(t, path, third)
	eventually(t, "the newer", w.inForce(t, third))
	eventually(t, "nothing to tell", func() bool { return w.State() == PolicyState{Serial: 3} && w.valid(t) == 1 })
}

func TestOlderPolicyAtStartLeavesEverythingRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	file := policy.File{Path: path, Mark: filepath.Join(filepath.Dir(path), "mark.json")}
	first, second := numbered(t, 1, "a.example"), numbered(t, 2, "b.example")
	write(t, path, second)
	before := &holder{}
	if NewWatcher(file, before, NewMetrics("1.2.3", func() (int64, int) { return 0, 0 }), &Notifier{}); before.policy == nil {
		t.Fatal("not in force")
	}
	write(t, path, first)
	next := watch(t, path, nil) // another start
	if next.policy != nil || next.refused == nil {
		t.Errorf("got %+v", next.holder)
	}
	if _, err := file.Install("new.json", first, nil, true, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "forced", next.inForce(t, first))
	eventually(t, "counted as forced, once", func() bool { return next.loads(t, "forced") == 1 })
}

func TestPolicyThatCannotBeRememberedIsNotInForce(t *testing.T) {
	dir := t.TempDir()
	file := policy.File{Path: filepath.Join(dir, "policy.json"), Mark: filepath.Join(dir, "state", "mark.json")}
	write(t, file.Path, numbered(t, 1, "a.example"))
	h := &holder{}
	w := NewWatcher(file, h, NewMetrics("1.2.3", func() (int64, int) { return 0, 0 }), &Notifier{})
	if h.policy != nil || h.refused == nil || !strings.Contains(w.State().Problem, "can't be remembered") {
		t.Errorf("got %+v, %+v", h, w.State())
	}
	if err := os.Mkdir(filepath.Dir(file.Mark), 0o700); err != nil {
		t.Fatal(err)
	}
	if w.Load(); h.policy == nil || w.State() != (PolicyState{Serial: 1}) {
		t.Errorf("got %+v, %+v", h, w.State())
	}
}
