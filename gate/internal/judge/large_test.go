package judge_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/testsign"
)

// TestMain lets this program be the process that judges a large attestation, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == judge.ChildCommand {
		if err := judge.Child(os.Stdin, os.NewFile(3, "bundle"), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(4)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sbom is a CycloneDX document of about so many bytes.
func sbom(size int) map[string]any {
	var components []any
	for n := 0; n < size; {
		digest := make([]byte, 32)
		rand.Read(digest)
		c := map[string]any{
			"bom-ref": fmt.Sprintf("pkg:npm/component-%d@1.2.%d?package-id=%x", n, n, digest[:8]), "type": "library",
			"name": fmt.Sprintf("component-%d", n), "version": fmt.Sprintf("1.2.%d", n),
			"purl":     fmt.Sprintf("pkg:npm/component-%d@1.2.%d", n, n),
			"licenses": []any{map[string]any{"license": map[string]any{"id": "Apache-2.0"}}},
			"hashes":   []any{map[string]any{"alg": "SHA-256", "content": hex.EncodeToString(digest)}},
			"properties": []any{map[string]any{"name": "syft:package:foundBy", "value": "javascript-package-cataloger"},
				map[string]any{"name": "syft:location:0:path", "value": fmt.Sprintf("/usr/lib/node_modules/component-%d/package.json", n)}},
		}
		components = append(components, c)
		n += 620
	}
	return map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components}
}

// newLarge is an image whose scope asks for an SBOM, of which there is one of that size.
func newLarge(t *testing.T, size int) *attesting {
	t.Helper()
	s := newAttesting(t)
	s.kind, s.asked["type"], s.predicate = bom, bom, sbom(size)
	s.asked["where"] = `!predicate.components.exists(c, c.name == "log4j-core")`
	return s
}

func TestAnSBOMOf16MiB(t *testing.T) {
	s := newLarge(t, 16<<20)
	o := s.judgeAttested(t)
	allowed(t, o, code.OK)
	if o.Attestations[0].Root != "release" || o.Expires.IsZero() || time.Until(o.Expires) > 24*time.Hour {
		t.Errorf("%+v, until %v", o.Attestations, o.Expires)
	}
	if len(s.remembered(t)) != 1 {
		t.Errorf("%v is remembered", s.remembered(t))
	}
}

// remembered lists the files of what came of large attestations.
func (s *attesting) remembered(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.store.Dir(), ".judged", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(files, func(path string) bool { return filepath.Base(path) == "key" })
}

const aboveMemory = evidence.MaxInMemory // of a statement, whose bundle is larger

func TestLargeAttestations(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*testing.T, *attesting)
		want   code.Code
		saying string
	}{
		{"right", func(*testing.T, *attesting) {}, code.OK, ""},
		{"right, by a key", func(_ *testing.T, s *attesting) { s.key, s.asked["by"] = &s.scene.key, []string{"team-key"} }, code.OK, ""},
		{"right, beside another that is asked for", func(t *testing.T, s *attesting) {
			s.put(t, testsign.CertifiedBundleOf(t, s.issuedBy.Issue(t, s.person).Content(t, testsign.StatementOf(t, "v1", slsa, 1, s.digest())), s.proof))
			s.rule["attestations"] = []any{map[string]any{"type": slsa, "by": []string{"release"}}, s.asked}
		}, code.OK, ""},
		{"a condition that is false", func(_ *testing.T, s *attesting) {
			s.asked["where"] = `predicate.components.exists(c, c.name == "log4j-core")`
		}, code.NoAttestation, "the condition is false"},
		{"a condition that costs too much", func(_ *testing.T, s *attesting) {
			s.asked["where"] = `predicate.components.all(c, predicate.components.all(d, c.name + d.name != ""))`
		}, code.NoAttestation, "costs more than"},
		{"by another workflow", func(_ *testing.T, s *attesting) {
			s.person.URI = strings.Replace(workflow, "release.yml", "test.yml", 1)
		},
			code.NoAttestation, "test.yml"},
		{"about another digest", func(_ *testing.T, s *attesting) { s.about = []string{testsign.Digest([]byte("x"))} }, code.NoAttestation, "a valid attestation for digest"},
		{"of another type", func(_ *testing.T, s *attesting) { s.kind = slsa }, code.NoAttestation, "there is none, only of " + slsa},
		{"without a log entry", func(_ *testing.T, s *attesting) { s.proof = testsign.Proof{} }, code.NoTrustedTime, "no log entry"},
		{"and no signature", func(_ *testing.T, s *attesting) { s.unsigned = true }, code.Unsigned, "which no signature of an image has"},
		{"that would stand for a signature", func(_ *testing.T, s *attesting) {
			s.unsigned, s.rule["anyOf"], s.rule["signature"] = true, []string{"release"}, bom
		}, code.Unsigned, "which no signature of an image has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newLarge(t, 2*aboveMemory)
			c.change(t, s)
			for _, when := range []string{"judged", "remembered"} {
				o := s.judgeAttested(t)
				if c.want == code.OK {
					allowed(t, o, code.OK)
				} else {
					refused(t, o, c.want, c.saying)
				}
				s.unsigned, s.none = true, true // what was put is there
				if n := len(s.remembered(t)); n > 1 || n == 0 && c.want != code.Unsigned {
					t.Errorf("%s: %d files", when, n)
				}
			}
		})
	}
}

func TestALargeAttestationThatWasAlteredOnDisk(t *testing.T) {
	s := newLarge(t, 2*aboveMemory)
	s.putSet(t, s.evidence(t))
	files, err := filepath.Glob(filepath.Join(s.store.Dir(), repository+"@*", "bundle-*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(content) > evidence.MaxInMemory {
			if err := os.WriteFile(path, append(content, ' '), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.unsigned, s.none = true, true
	refused(t, s.judgeAttested(t), code.NoAttestation, "not that in its name")
}

// What is remembered counts for this node, this policy, this image and this attestation.
func TestWhatIsRememberedIsSealed(t *testing.T) {
	falsify := func(t *testing.T, s *attesting, change func(string) string) {
		t.Helper()
		for _, path := range s.remembered(t) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := change(string(content))
			if changed == string(content) {
				t.Fatalf("nothing changed in %s", content)
			}
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, change := range map[string]func(*testing.T, *attesting){
		"as it was written": func(*testing.T, *attesting) {},
		"altered": func(t *testing.T, s *attesting) {
			falsify(t, s, func(text string) string { return strings.Replace(text, `"findings"`, `"root":"release","findings"`, 1) })
		},
		"without its seal": func(t *testing.T, s *attesting) {
			falsify(t, s, func(text string) string {
				return "\n" + strings.Replace(strings.SplitN(text, "\n", 2)[1], `"findings"`, `"root":"release","findings"`, 1)
			})
		},
		"with another node's key": func(t *testing.T, s *attesting) {
			if err := os.WriteFile(filepath.Join(s.store.Dir(), ".judged", "key"), bytes.Repeat([]byte("k"), 32), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"with a key that others can read": func(t *testing.T, s *attesting) {
			if err := os.Chmod(filepath.Join(s.store.Dir(), ".judged", "key"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLarge(t, 2*aboveMemory)
			s.asked["where"] = `predicate.components.exists(c, c.name == "log4j-core")`
			refused(t, s.judgeAttested(t), code.NoAttestation, "the condition is false")
			change(t, s)
			s.unsigned, s.none = true, true
			refused(t, s.judgeAttested(t), code.NoAttestation, "the condition is false")
		})
	}
}

// A remembered outcome that allows is believed: without its file the bundle is needed.
func TestWhatIsRememberedIsUsed(t *testing.T) {
	for _, forget := range []bool{false, true} {
		s := newLarge(t, 2*aboveMemory)
		allowed(t, s.judgeAttested(t), code.OK)
		files, err := filepath.Glob(filepath.Join(s.store.Dir(), repository+"@*", "bundle-*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if info, err := os.Stat(path); err == nil && info.Size() > evidence.MaxInMemory {
				if err := os.WriteFile(path, bytes.Repeat([]byte(" "), int(info.Size())), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if forget {
			for _, path := range s.remembered(t) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.unsigned, s.none = true, true
		o := s.judgeAttested(t)
		if o.Allow == forget {
			t.Errorf("forgotten %v: %s %v", forget, o.Code, o.Details)
		}
		// Another policy has no use for it.
		s.asked["where"] = `predicate.components.exists(c, c.name == "component-0") || predicate.components.size() > 0`
		if o := s.judgeAttested(t); o.Allow {
			t.Errorf("under another policy: %s", o.Code)
		}
	}
}
