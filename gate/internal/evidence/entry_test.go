package evidence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

const repo = "registry.example/team/app"

func digestOf(i int) string { return "sha256:" + sum(fmt.Append(nil, i)) }

func open(t testing.TB, config Config) *Store {
	t.Helper()
	if config.Dir == "" {
		config.Dir = filepath.Join(t.TempDir(), "evidence")
	}
	s, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Flush)
	return s
}

func attachment(text string) Attachment {
	return Attachment{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Payload: []byte(text), Annotations: map[string]string{"a": "b"}}
}

func bundle(text string) Bundle { return Bundle{JSON: []byte(text)} }

func full() Set {
	return Set{Repository: repo, Digest: digest, Manifest: manifest,
		Attachments: []Attachment{attachment("one"), attachment("two")}, Bundles: []Bundle{bundle("{}")}}
}

func put(t testing.TB, s *Store, set Set, proven bool) {
	t.Helper()
	if err := s.Put(set, proven); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s *Store, digest string) Set {
	t.Helper()
	set, err := s.Get(repo, digest)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func entryDir(s *Store, digest string) string {
	return filepath.Join(s.config.Dir, repo+"@"+strings.Replace(digest, ":", "=", 1))
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasPutIsGot(t *testing.T) {
	s := open(t, Config{})
	put(t, s, full(), false)
	got := get(t, s, digest)
	if string(got.Manifest) != string(manifest) || len(got.Attachments) != 2 || len(got.Bundles) != 1 || len(got.Problems) != 0 {
		t.Errorf("got %+v", got)
	}
	if HashOf(got) != HashOf(full()) {
		t.Error("the hash of what was got is another")
	}
	if other, err := s.Get("registry.example/team/other", digest); err != nil || !other.Empty() {
		t.Errorf("another repository has %+v, %v", other, err)
	}
	if missing := get(t, s, digestOf(1)); !missing.Empty() || len(missing.Problems) != 0 {
		t.Errorf("another digest has %+v", missing)
	}
}

func TestPutAddsAndKeeps(t *testing.T) {
	s := open(t, Config{})
	put(t, s, full(), false)
	before := HashOf(get(t, s, digest))
	put(t, s, Set{Repository: repo, Digest: digest, Attachments: []Attachment{attachment("two"), attachment("three")}}, true)
	got := get(t, s, digest)
	if len(got.Attachments) != 3 || len(got.Bundles) != 1 || got.Manifest == nil || !got.proven {
		t.Errorf("got %+v", got)
	}
	if HashOf(got) == before {
		t.Error("the hash is the same with one signature more")
	}
}

func TestWhatLiesThereIsChecked(t *testing.T) {
	tests := []struct {
		name, file, text string
		want             code.Code
	}{
		{"another manifest", manifestFile, "{}", code.Tampered},
		{"a bundle under another name", bundleName(bundle("{}")), "{ }", code.Tampered},
		{"an unreadable signature", signatureName(1), "junk", code.Malformed},
		{"a signature of another format", signatureName(1), "\x00simple-signing\nx", code.Malformed},
		{"a signature that is not JSON", signatureName(1), blobPrefix + "x", code.Malformed},
		{"a bundle over the bound", bundleName(bundle("{}")), strings.Repeat(" ", MaxLarge+1), code.Malformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, Config{})
			put(t, s, full(), false)
			writeFile(t, filepath.Join(entryDir(s, digest), test.file), test.text)
			got := get(t, s, digest)
			if len(got.Problems) != 1 || got.Problems[0].Code != test.want {
				t.Fatalf("problems %v", got.Problems)
			}
			if n := len(got.Attachments) + len(got.Bundles); n < 2 {
				t.Errorf("only %d of the good ones are left", n)
			}
			put(t, s, full(), false)
			if again := get(t, s, digest); HashOf(again) != HashOf(full()) {
				t.Errorf("not mended by another Put: %+v", again)
			}
		})
	}
}

func TestEvidenceMayBeDroppedIntoTheStore(t *testing.T) {
	s := open(t, Config{})
	dir := entryDir(s, digest)
	writeFile(t, filepath.Join(dir, manifestFile), string(manifest))
	writeFile(t, filepath.Join(dir, signatureName(1)), string(attachment("one").blob()))
	writeFile(t, filepath.Join(dir, signatureName(7)), string(attachment("two").blob()))
	writeFile(t, filepath.Join(dir, bundleName(bundle("{}"))), "{}")
	writeFile(t, filepath.Join(dir, "notes.txt"), "")
	if got := get(t, s, digest); HashOf(got) != HashOf(full()) || len(got.Problems) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestDirIsWhatContainersImageReads(t *testing.T) {
	s := open(t, Config{})
	put(t, s, full(), false)
	set := get(t, s, digest)
	if dir, done, err := set.Dir(); err != nil || dir != entryDir(s, digest) || done() != nil {
		t.Errorf("the entry itself would do: %s, %v", dir, err)
	}
	writeFile(t, filepath.Join(entryDir(s, digest), signatureName(1)), "junk")
	set = get(t, s, digest)
	dir, done, err := set.Dir()
	if err != nil || dir == entryDir(s, digest) {
		t.Fatalf("an unreadable signature hides the others: %s, %v", dir, err)
	}
	for name, want := range map[string]string{manifestFile: string(manifest), versionFile: dirVersion, signatureName(1): string(attachment("two").blob())} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy is still there: %v", err)
	}
}

func TestAnEntryIsBounded(t *testing.T) {
	s := open(t, Config{})
	var many Set
	for i := range maxPerKind + 10 {
		many.Attachments = append(many.Attachments, attachment(fmt.Sprint("junk", i)))
		many.Bundles = append(many.Bundles, bundle(fmt.Sprint("junk", i)))
	}
	many.Repository, many.Digest = repo, digest
	put(t, s, many, false)
	if got := get(t, s, digest); len(got.Attachments) != maxPerKind || len(got.Bundles) != maxPerKind || len(got.Problems) != 0 {
		t.Errorf("%d attachments, %d bundles, %v", len(got.Attachments), len(got.Bundles), got.Problems)
	}
	put(t, s, full(), true)
	got := get(t, s, digest)
	if len(got.Attachments) != maxPerKind || len(got.Bundles) != maxPerKind || len(got.Problems) != 0 {
		t.Errorf("%d attachments, %d bundles, %v", len(got.Attachments), len(got.Bundles), got.Problems)
	}
	if !slices.ContainsFunc(got.Bundles, func(b Bundle) bool { return string(b.JSON) == "{}" }) || string(got.Attachments[0].Payload) != "one" {
		t.Error("what is proven had no room among junk")
	}
}

func TestTooManyDroppedFilesAreMalformed(t *testing.T) {
	s := open(t, Config{})
	for i := range maxPerKind + 1 {
		writeFile(t, filepath.Join(entryDir(s, digest), signatureName(i+1)), string(attachment(fmt.Sprint(i)).blob()))
	}
	got := get(t, s, digest)
	if len(got.Attachments) != maxPerKind || len(got.Problems) != 1 || got.Problems[0].Code != code.Malformed {
		t.Errorf("%d attachments, problems %v", len(got.Attachments), got.Problems)
	}
}

func FuzzParseBlob(f *testing.F) {
	f.Add(attachment("x").blob())
	f.Add([]byte(blobPrefix + `{"mimeType":"","payload":"","annotations":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseBlob(data)
		if err != nil {
			return
		}
		if again, err := parseBlob(a.blob()); err != nil || again.ID() != a.ID() {
			t.Errorf("%q does not come back: %v", data, err)
		}
	})
}

func TestManifestsThatAreHandedOver(t *testing.T) {
	raw := []byte(`{"layers":[]}`)
	for name, c := range map[string]struct {
		raw  []byte
		want int
	}{"its own": {raw, 0}, "other bytes": {append([]byte(" "), raw...), 1}} {
		t.Run(name, func(t *testing.T) {
			got := Set{Repository: repo, Digest: "sha256:" + sum(raw)}.WithManifest(c.raw)
			if len(got.Problems) != c.want || (got.Manifest == nil) != (c.want > 0) || c.want > 0 && got.Problems[0].Code != code.Tampered {
				t.Errorf("manifest %q, problems %v", got.Manifest, got.Problems)
			}
		})
	}
}
