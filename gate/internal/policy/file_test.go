package policy_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sigstore "github.com/sigstore/sigstore/pkg/signature"

	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
)

// rendered is a policy with one scope; 0 is not a serial.
func rendered(t *testing.T, serial int, scope string) []byte {
	t.Helper()
	document := map[string]any{
		"version": policy.Version, "roots": map[string]any{}, "pinned": []string{},
		"scopes":  map[string]any{scope: map[string]any{"accept": true}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	}
	if serial != 0 {
		document["serial"] = serial
	}
	content, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// newFile is the policy file of a node on which nothing was in force yet.
func newFile(t *testing.T, keys ...testsign.Key) policy.File {
	t.Helper()
	dir := t.TempDir()
	file := policy.File{Path: filepath.Join(dir, "policy.json"), Mark: filepath.Join(dir, "state", "mark.json")}
	if len(keys) > 0 {
		var texts []string
		for _, key := range keys {
			texts = append(texts, key.PEM)
		}
		var err error
		if file.Keys, err = policy.ParseKeys("policyKeys", texts); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func sign(t *testing.T, key testsign.Key, hash crypto.Hash, data []byte) string {
	t.Helper()
	signer, err := sigstore.LoadSigner(key.Private, hash)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.SignMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(signature)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// enforce installs a policy and brings it into force as the daemon does.
func enforce(t *testing.T, file policy.File, data []byte, force bool) (before int64, forced bool) {
	t.Helper()
	if _, err := file.Install("new.json", data, nil, force, false); err != nil {
		t.Fatal(err)
	}
	p, err := file.Load()
	if err == nil {
		before, forced, err = file.Remember(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return before, forced
}

// want checks why a policy is refused; "" for not at all.
func want(t *testing.T, err error, result string) {
	t.Helper()
	if result == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var refusal *code.Refusal
	var refused *policy.Refused
	if !errors.As(err, &refusal) || refusal.Code != code.PolicyInvalid || !errors.As(err, &refused) || refused.Result != result {
		t.Errorf("got %v, expected %s", err, result)
	}
}

func TestSerialOnlyGrows(t *testing.T) {
	for _, test := range []struct {
		name    string
		inForce int
		next    int
		scope   string // "a.example" is the one in force
		result  string
	}{
		{"higher", 7, 8, "b.example", ""},
		{"much higher", 7, 7000, "b.example", ""},
		{"the same policy", 7, 7, "a.example", ""},
		{"the same serial with other content", 7, 7, "b.example", "older"},
		{"lower", 7, 6, "b.example", "older"},
		{"without a serial", 7, 0, "b.example", "older"},
		{"the first serial", 0, 1, "b.example", ""},
		{"never a serial", 0, 0, "b.example", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := newFile(t)
			enforce(t, file, rendered(t, test.inForce, "a.example"), false)
			next := rendered(t, test.next, test.scope)
			_, err := file.Install("new.json", next, nil, false, false)
			want(t, err, test.result)
			write(t, file.Path, next) // by another way than Install
			p, err := file.Load()
			want(t, err, test.result)
			if err == nil && p.Serial != int64(test.next) {
				t.Errorf("serial %d", p.Serial)
			}
		})
	}
}

func TestSerialIsAWholeNumber(t *testing.T) {
	for serial, good := range map[string]bool{
		"5": true, "9007199254740991": true, "9007199254740992": false, "-1": false, "1.5": false, `"5"`: false, "1e3": false,
	} {
		text := strings.Replace(string(rendered(t, 12345, "a.example")), "12345", serial, 1)
		if _, err := policy.Parse([]byte(text)); (err == nil) != good {
			t.Errorf("%s: %v", serial, err)
		}
	}
}

func TestForceIsForOnePolicyOnce(t *testing.T) {
	file := newFile(t)
	enforce(t, file, rendered(t, 7, "a.example"), false)
	older := rendered(t, 5, "b.example")
	if before, forced := enforce(t, file, older, true); !forced || before != 7 {
		t.Errorf("forced %v, before %d", forced, before)
	}
	write(t, file.Path, rendered(t, 4, "b.example"))
	_, err := file.Load()
	want(t, err, "older") // another one
	enforce(t, file, rendered(t, 6, "c.example"), false)
	write(t, file.Path, older)
	_, err = file.Load()
	want(t, err, "older") // the same, once more
}

func TestAPermissionThatWasNotUsedEnds(t *testing.T) {
	file := newFile(t)
	enforce(t, file, rendered(t, 7, "a.example"), false)
	older := rendered(t, 5, "b.example")
	if done, err := file.Install("new.json", older, nil, true, false); err != nil || !done.Forced { // and no gate took it up
		t.Fatalf("%+v, %v", done, err)
	}
	enforce(t, file, rendered(t, 8, "c.example"), false)
	write(t, file.Path, older)
	_, err := file.Load()
	want(t, err, "older")
}

func TestADamagedMarkRefuses(t *testing.T) {
	for _, test := range []struct{ name, mark, result string }{
		{"intact", `{"version":"countersign.policy-mark/v1","serial":3,"hash":"sha256:aa"}`, ""},
		{"empty", "", "unremembered"},
		{"cut", `{"version":"countersign.policy-mark/v1","ser`, "unremembered"},
		{"other version", `{"version":"countersign.policy-mark/v2","serial":3,"hash":"sha256:aa"}`, "unremembered"},
		{"more members", `{"version":"countersign.policy-mark/v1","serial":3,"hash":"sha256:aa","limit":1}`, "unremembered"},
		{"large", strings.Repeat(" ", 70_000) + `{"version":"countersign.policy-mark/v1","serial":3,"hash":"sha256:aa"}`, "unremembered"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := newFile(t)
			enforce(t, file, rendered(t, 3, "a.example"), false)
			write(t, file.Mark, []byte(test.mark))
			next := rendered(t, 4, "b.example")
			_, err := file.Install("new.json", next, nil, false, false)
			want(t, err, test.result)
			if _, forced := enforce(t, file, next, true); forced != (test.result != "") {
				t.Errorf("forced: %v", forced)
			}
		})
	}
}

func TestSerialThatCannotBeRememberedIsNotInForce(t *testing.T) {
	file := newFile(t)
	enforce(t, file, rendered(t, 3, "a.example"), false)
	write(t, file.Path, rendered(t, 4, "b.example"))
	p, err := file.Load()
	if err != nil {
		t.Fatal(err)
	}
	lost := policy.File{Path: file.Path, Mark: filepath.Join(filepath.Dir(file.Path), "nowhere", "mark.json")}
	_, _, err = lost.Remember(p)
	want(t, err, "unremembered")
	_, _, err = file.Remember(p)
	want(t, err, "")
}

func TestOnlyASignedPolicyCounts(t *testing.T) {
	one, two, stranger := testsign.NewKey(t), testsign.NewKey(t), testsign.NewKey(t)
	data, other := rendered(t, 1, "a.example"), rendered(t, 2, "a.example")
	for _, test := range []struct {
		name       string
		keys       []testsign.Key
		signatures string
		result     string
	}{
		{"by the key", []testsign.Key{one}, sign(t, one, crypto.SHA256, data), ""},
		{"by the second key", []testsign.Key{one, two}, sign(t, two, crypto.SHA256, data), ""},
		{"over a longer hash", []testsign.Key{one}, sign(t, one, crypto.SHA512, data), ""},
		{"beside what is none", []testsign.Key{one}, "!\n\nAAAA\n" + sign(t, stranger, crypto.SHA256, data) + "\r\n" + sign(t, one, crypto.SHA256, data) + "\n", ""},
		{"by another key", []testsign.Key{one}, sign(t, stranger, crypto.SHA256, data), "unsigned"},
		{"of other bytes", []testsign.Key{one}, sign(t, one, crypto.SHA256, other), "unsigned"},
		{"not at all", []testsign.Key{one}, "", "unsigned"},
		{"beyond the bound", []testsign.Key{one}, strings.Repeat("AAAA\n", 16) + sign(t, one, crypto.SHA256, data), "unsigned"},
		{"by another key where no key is asked for", nil, sign(t, stranger, crypto.SHA256, data), ""},
		{"not at all where no key is asked for", nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := newFile(t, test.keys...)
			_, err := file.Install("new.json", data, []byte(test.signatures), false, false)
			want(t, err, test.result)
			_, err = file.Install("new.json", data, []byte(test.signatures), true, false)
			want(t, err, test.result) // force is not a signature
			write(t, file.Path, data)
			write(t, file.Path+policy.Signatures, []byte(test.signatures))
			_, err = file.Load()
			want(t, err, test.result)
		})
	}
}

func TestEveryKindOfKeySignsAPolicy(t *testing.T) {
	data := rendered(t, 1, "a.example")
	for _, kind := range []string{"p256", "p384", "p521", "rsa2048", "ed25519"} {
		key := testsign.NewKeyOf(t, kind)
		file := newFile(t, key)
		_, err := file.Install("new.json", data, []byte(sign(t, key, key.Hash, data)), false, false)
		want(t, err, "")
		_, err = file.Load()
		want(t, err, "")
	}
}

func TestAPolicyHasItsSignatureAtEveryMoment(t *testing.T) {
	key := testsign.NewKey(t)
	file := newFile(t, key)
	first, second := rendered(t, 1, "a.example"), rendered(t, 2, "b.example")
	for _, data := range [][]byte{first, second} {
		if _, err := file.Install("new.json", data, []byte(sign(t, key, key.Hash, data)), false, false); err != nil {
			t.Fatal(err)
		}
	}
	_, err := file.Load()
	want(t, err, "")
	write(t, file.Path, first) // as if it had stopped between the two files
	_, err = file.Load()
	want(t, err, "")
	third := rendered(t, 3, "c.example")
	if _, err := file.Install("new.json", third, []byte(sign(t, key, key.Hash, third)), false, false); err != nil {
		t.Fatal(err)
	}
	write(t, file.Path, second) // nothing is kept for longer
	_, err = file.Load()
	want(t, err, "unsigned")
}

func TestInstallSaysWhatItChanges(t *testing.T) {
	file := newFile(t)
	data := rendered(t, 1, "a.example")
	for _, test := range []struct {
		plan, changed, there bool
	}{{true, true, false}, {false, true, true}, {false, false, true}, {true, false, true}} {
		done, err := file.Install("new.json", data, nil, false, test.plan)
		_, missing := os.Stat(file.Path)
		if err != nil || done.Changed != test.changed || done.Policy.Serial != 1 || (missing == nil) != test.there {
			t.Errorf("%+v: got %+v, %v, %v", test, done, err, missing)
		}
	}
	left, err := os.ReadDir(filepath.Dir(file.Path))
	if err != nil || len(left) != 2 { // the policy and the state
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestInstallTakesNoInvalidPolicy(t *testing.T) {
	file := newFile(t)
	_, err := file.Install("new.json", []byte("{"), nil, true, false)
	var refusal *code.Refusal
	if !errors.As(err, &refusal) || refusal.Code != code.PolicyInvalid || !strings.HasPrefix(refusal.Found, "new.json: ") {
		t.Errorf("got %v", err)
	}
	_, err = file.Install("new.json", rendered(t, 1, "a.example"), nil, true, false)
	want(t, err, "")
}

func TestWhatANodeNeedsIsPinnedBesideThePolicysPins(t *testing.T) {
	const needed = "registry.k8s.io/pause@sha256:" + "00000000000000000000000000000000000000000000000000000000000000aa"
	file := newFile(t)
	if err := os.WriteFile(file.Path, rendered(t, 0, "a.example"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, digest, _ := strings.Cut(needed, "@")
	without, err := file.Load()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := without.Pinned(digest); ok {
		t.Error("pinned by nobody")
	}
	file.Pins = []string{needed}
	for name, load := range map[string]func() (*policy.Policy, error){"Load": file.Load, "Read": file.Read} {
		p, err := load()
		if err != nil {
			t.Fatal(err)
		}
		if pin, ok := p.Pinned(digest); !ok || pin != needed || p.Hash != without.Hash {
			t.Errorf("%s: got %q %v, hash %s", name, pin, ok, p.Hash)
		}
	}
	file.Pins = []string{"registry.k8s.io/pause:3.10"}
	if _, err := file.Load(); err == nil || !strings.Contains(err.Error(), "pinned of gate.json[0]") {
		t.Errorf("a pin without a digest: got %v", err)
	}
}
