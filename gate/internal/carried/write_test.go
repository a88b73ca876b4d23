package carried

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/evidence"

	"github.com/opencontainers/go-digest"
)

// set gives what is kept of a document, which bundle signs.
func set(repository, manifest string) evidence.Set {
	return evidence.Set{Repository: repository, Digest: digest.FromString(manifest).String(), Manifest: []byte(manifest),
		Bundles: []evidence.Bundle{{JSON: []byte("{}")}}}
}

func indexOf(children ...evidence.Set) string {
	var entries []string
	for _, c := range children {
		entries = append(entries, fmt.Sprintf(`{"digest":%q}`, c.Digest))
	}
	return `{"manifests":[` + strings.Join(entries, ",") + `]}`
}

func TestGrouped(t *testing.T) {
	leaf, other := set("r.example/app", `{"config":{}}`), set("r.example/other", `{"config":{}}`)
	inner := set("r.example/app", indexOf(leaf))
	outer := set("r.example/app", indexOf(inner, leaf))
	loop := set("r.example/app", `{"manifests":"none"}`)
	var found []string
	for _, group := range Grouped([]evidence.Set{leaf, other, inner, outer, loop}) {
		var names []string
		for _, s := range group {
			names = append(names, s.Repository+"@"+s.Digest)
		}
		found = append(found, strings.Join(names, " "))
	}
	want := []string{
		"r.example/app@" + outer.Digest + " r.example/app@" + inner.Digest + " r.example/app@" + leaf.Digest,
		"r.example/app@" + loop.Digest,
		"r.example/other@" + other.Digest,
	}
	slices.Sort(want)
	if !slices.Equal(found, want) {
		t.Errorf("%q, expected %q", found, want)
	}
}

func TestWhatIsTooLargeIsLeftOutAndNamed(t *testing.T) {
	image := set("r.example/app", `{"config":{}}`)
	large := func(size int) evidence.Large {
		content := bytes.Repeat([]byte("x"), size)
		path := filepath.Join(t.TempDir(), "bundle")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return evidence.Large{Sum: digest.FromBytes(content).Encoded(), Size: int64(size), Path: path}
	}
	for size, left := range map[int]int{maxFile: 0, maxFile + 1: 1} {
		image.Large = []evidence.Large{large(size)}
		var b bytes.Buffer
		leftOut, err := Pack(&b, []Evidence{{image}})
		if err != nil || len(leftOut) != left {
			t.Errorf("%d bytes: %v, %v", size, leftOut, err)
		}
		if images, err := Unpack(&b, t.TempDir()); err != nil || len(images) != 1 {
			t.Errorf("%d bytes: %v, %v", size, images, err)
		}
	}
	image.Large = []evidence.Large{large(8)}
	image.Large[0].Sum = sixtyFour
	if _, err := Pack(&bytes.Buffer{}, []Evidence{{image}}); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("%v", err)
	}
	if _, err := Pack(&bytes.Buffer{}, nil); err == nil || !strings.Contains(err.Error(), "0 images") {
		t.Errorf("%v", err)
	}
}
