package reference

import (
	_ "crypto/sha512" // as the gate has it: digests of that kind parse
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

// vectors are shared with the Python side: name -> full name, "ID" or a code.
func vectors(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../../shared/vectors/references.json")
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]string
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v) < 20 {
		t.Fatalf("only %d vectors", len(v))
	}
	return v
}

func TestNormaliseAgreesWithSharedVectors(t *testing.T) {
	for name, want := range vectors(t) {
		t.Run(name, func(t *testing.T) {
			n, err := Normalise(name)
			switch want {
			case "ID":
				if err != nil || n != (Name{IDForm: true}) {
					t.Errorf("got %+v, %v, want an ID without a repository", n, err)
				}
			case string(code.BadReference):
				var refusal *code.Refusal
				if !errors.As(err, &refusal) || refusal.Code != code.BadReference {
					t.Errorf("got %+v, %v, want %s", n, err, want)
				}
			default:
				if err != nil || n.String() != want || n.IDForm {
					t.Errorf("got %+v (%s), %v, want %s", n, n, err, want)
				}
			}
		})
	}
}

func TestNormalisedRepositoriesAreRepositoriesAndScopes(t *testing.T) {
	for name := range vectors(t) {
		n, err := Normalise(name)
		if err != nil || n.IDForm {
			continue
		}
		if err := CheckRepository(n.Repository); err != nil {
			t.Errorf("%s: %v", n.Repository, err)
		}
		if err := CheckScope(n.Repository); err != nil && len(n.Repository) < 250 {
			t.Errorf("%s: %v", n.Repository, err)
		}
	}
}

func TestCheckRepositoryRefusesWhatIsNotOne(t *testing.T) {
	for _, repository := range []string{"", "busybox", "library/busybox", "index.docker.io/library/busybox", "r.example/a:1",
		"r.example/a@sha256:" + strings.Repeat("0", 64), "r.example/../a", "r.example/A", "../etc", "r.example//a", "r.example/a/"} {
		if err := CheckRepository(repository); err == nil {
			t.Errorf("%q was taken for a repository", repository)
		}
	}
}

func TestCheckDigest(t *testing.T) {
	for digest, good := range map[string]bool{
		"sha256:" + strings.Repeat("a", 64): true,
		"sha256:" + strings.Repeat("A", 64): false,
		"sha256:" + strings.Repeat("a", 63): false,
		"sha256:" + strings.Repeat("g", 64): false,
		"sha512:" + strings.Repeat("a", 64): false,
		strings.Repeat("a", 64):             false,
		"":                                  false,
	} {
		if err := CheckDigest(digest); (err == nil) != good {
			t.Errorf("%q: %v", digest, err)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{"busybox", "r.example:5000/a/b:tag", "sha256:9f86d0", "a@sha256:" + strings.Repeat("0", 64)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n, err := Normalise(name)
		if err != nil || n.IDForm {
			return
		}
		again, err := Normalise(n.String())
		if err != nil || again != n {
			t.Errorf("%q gives %+v, which gives %+v, %v", name, n, again, err)
		}
	})
}

// What is known by another digest has no signature that the gate could find.
func TestADigestInANameIsSHA256(t *testing.T) {
	for digest, want := range map[string]code.Code{"sha256:" + strings.Repeat("a", 64): "", "sha512:" + strings.Repeat("a", 128): code.BadReference} {
		algorithm, _, _ := strings.Cut(digest, ":")
		t.Run(algorithm, func(t *testing.T) {
			n, err := Normalise("registry.example/app@" + digest)
			var refusal *code.Refusal
			if want == "" && (err != nil || n.Digest != digest) || want != "" && (!errors.As(err, &refusal) || refusal.Code != want) {
				t.Errorf("got %+v, %v", n, err)
			}
		})
	}
}
