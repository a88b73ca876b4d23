package crio

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
)

// others puts n manifests of the same content into the image's record, before its own,
// as somebody who may pull from elsewhere can, each filled up to size bytes.
func (p *picture) others(n, size int) {
	for i := range n {
		manifest := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[],"annotations":{"n":"%d%s"}}`, p.config, i, strings.Repeat("x", size))
		p.data["manifest-"+digest.FromBytes(manifest).String()] = manifest
		p.names = append(p.names, fmt.Sprintf("registry.example/tenant/%d@%s", i%7, digest.FromBytes(manifest)))
	}
}

// What others put into the record of an image whose content they have keeps nobody from
// the manifest that a name leads to.
func TestOtherManifestsOfARecordHideNoneOfOnes(t *testing.T) {
	for name, crowd := range map[string][2]int{"none": {0, 0}, "many": {maxDocuments + 100, 1}, "large ones": {12, 3 << 20}} {
		for form, written := range map[string]func(*picture) string{
			"by tag":    func(*picture) string { return tagged },
			"by digest": func(p *picture) string { return repository + "@" + p.manifest },
			"by ID":     func(p *picture) string { return p.id },
		} {
			t.Run(name+" "+form, func(t *testing.T) {
				w := newWorld(t)
				app := w.images[0]
				app.names = []string{tagged, repository + "@" + app.index}
				app.others(crowd[0], crowd[1])
				w.name = written(app)
				for range 2 { // from storage, and from memory
					bound, err := w.bind()
					if err != nil {
						t.Fatal(err)
					}
					at := slices.IndexFunc(bound.Images, func(i bind.Image) bool { return i.Repository == repository })
					image := bound.Images[max(at, 0)]
					own := bind.Candidate{Index: app.index, Manifest: app.manifest, Config: app.config}
					if at < 0 || !slices.Contains(image.Candidates[:min(len(image.Candidates), 8)], own) {
						t.Errorf("repository %d of %d, %d candidates", at, len(bound.Images), len(image.Candidates))
					}
					if got := len(image.Candidates) + len(image.Beside); form != "by digest" && got != crowd[0]+1 {
						t.Errorf("%d digests of %d count, some are lost", got, crowd[0]+1)
					}
					if (crowd[0] > 0) != (len(image.Beside) > 0) {
						t.Errorf("%d digests are beside", len(image.Beside))
					}
				}
			})
		}
	}
}

// Names of others are not an obstacle to a name that was written, and few enough of them
// none to an ID.
func TestOtherNamesOfARecordHideNoneOfOnes(t *testing.T) {
	for n, want := range map[int]code.Code{17: "", maxRepositories - 1: "", maxRepositories: code.Malformed} {
		w := newWorld(t)
		app := w.images[0]
		for i := range n {
			app.names = append(app.names, fmt.Sprintf("registry.example/a%d:v1", i))
		}
		bound, err := w.bind()
		if err != nil || len(bound.Images) != 1 || bound.Images[0].Repository != repository {
			t.Errorf("%d other names: %v", n, err)
		}
		w.name = app.id
		delete(w.containers[0], "metadata")
		bound, err = w.bind()
		if got := codeOf(err); got != want || (err == nil && len(bound.Images) != n+1) {
			t.Errorf("%d other names, by ID: %v", n, err)
		}
	}
}

// However indexes list each other, there is an end to it.
func TestCandidatesAreBounded(t *testing.T) {
	config := digest.FromString("config").String()
	d := &documents{parsed: map[string]*bind.Document{}}
	for i := range 40 {
		d.add(fmt.Sprint("m", i), &bind.Document{Config: config})
	}
	own := d.candidates(config)
	if len(own) != 40 || len(d.beside) != 0 {
		t.Fatalf("%d candidates, %d beside", len(own), len(d.beside))
	}
	all := &bind.Document{IsIndex: true}
	for i := range 40 {
		all.Children = append(all.Children, descriptor(fmt.Sprint("m", i)), descriptor(fmt.Sprint("i", i)))
	}
	for i := range 40 {
		d.add(fmt.Sprint("i", i), all)
	}
	if found := d.candidates(config); len(found) != maxCandidates || !slices.Contains(d.beside, "m39") {
		t.Errorf("%d candidates, %d beside", len(found), len(d.beside))
	}
}

func descriptor(dgst string) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.Digest(dgst)}
}
