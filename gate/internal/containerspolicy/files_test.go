package containerspolicy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"countersign/gate/internal/policy"
)

const document = `{"version":"countersign.policy/v1","roots":{},"scopes":{"r.example":{"accept":true}},"pinned":[],"revoked":{"keys":[],"certificates":[],"digests":[]}}`

func place(t *testing.T) Files {
	dir := t.TempDir()
	return Files{Policy: filepath.Join(dir, "policy.json"), RegistriesD: filepath.Join(dir, "registries.yaml")}
}

func differs(t *testing.T, f Files, p *policy.Policy) bool {
	t.Helper()
	found, err := f.Differs(p)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWhatTheEngineReadsIsPutThereAndTakenBack(t *testing.T) {
	f, p := place(t), parsed(t, []byte(document))
	if err := os.WriteFile(f.Policy, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !differs(t, f, p) {
		t.Error("another's policy is taken for ours")
	}
	undo, err := f.Put(p)
	if err != nil || differs(t, f, p) {
		t.Fatalf("%v, or it differs", err)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(f.Policy); err != nil || string(content) != "theirs" {
		t.Errorf("got %q, %v", content, err)
	}
	if _, err := os.Lstat(f.RegistriesD); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", f.RegistriesD, err)
	}
}

func TestNothingIsLeftOfWhatCanNotBePutThereWhole(t *testing.T) {
	f, p := place(t), parsed(t, []byte(document))
	if err := os.Mkdir(f.Policy, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(p); err == nil {
		t.Fatal("a folder was replaced")
	}
	if _, err := os.Lstat(f.RegistriesD); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", f.RegistriesD, err)
	}
}

// broken is an engine whose files can't be written.
type broken struct{ Files }

func (b broken) Put(*policy.Policy) (func() error, error) { return nil, errors.New("no space") }

func TestThePolicyFollowsItsEngine(t *testing.T) {
	dir := t.TempDir()
	f := place(t)
	file := policy.File{Path: filepath.Join(dir, "policy.json"), Mark: filepath.Join(dir, "mark.json"), Engine: broken{f}}
	if _, err := file.Install("the policy", []byte(document), nil, false, false); err == nil {
		t.Fatal("expected an error")
	}
	if _, err := os.Lstat(file.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the gate has a policy that the engine does not have")
	}
	file.Engine = f
	done, err := file.Install("the policy", []byte(document), nil, false, true)
	if err != nil || !done.Changed || !differs(t, f, done.Policy) {
		t.Fatalf("a plan: %v %+v", err, done)
	}
	if done, err = file.Install("the policy", []byte(document), nil, false, false); err != nil || differs(t, f, done.Policy) {
		t.Fatal(err)
	}
	if err := os.Remove(f.Policy); err != nil {
		t.Fatal(err)
	}
	if done, err = file.Install("the policy", []byte(document), nil, false, false); err != nil || !done.Changed || differs(t, f, done.Policy) {
		t.Errorf("a policy that the engine lost: %v %+v", err, done)
	}
	if err := os.Remove(file.Path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file.Path, 0o755); err != nil { // the gate's own can't be put there
		t.Fatal(err)
	}
	before, err := os.ReadFile(f.Policy)
	if err != nil {
		t.Fatal(err)
	}
	other := []byte(`{"version":"countersign.policy/v1","roots":{},"scopes":{},"pinned":[],"revoked":{"keys":[],"certificates":[],"digests":[]}}`)
	if _, err := file.Install("the policy", other, nil, false, false); err == nil {
		t.Fatal("a folder was replaced")
	}
	if after, err := os.ReadFile(f.Policy); err != nil || string(after) != string(before) {
		t.Errorf("the engine has a policy that the gate refused to take: %v", err)
	}
}
