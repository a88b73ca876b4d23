package judge_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/judge"
)

// BenchmarkAmongImages measures what has to cost the same however many images a
// node has evidence of; bench.evidence runs it, and compares ten with 10,000.
func BenchmarkAmongImages(b *testing.B) {
	for _, images := range []int{10, 10_000} {
		dir := filepath.Join(b.TempDir(), "evidence")
		store := storeOf(b, dir, images)
		b.Run(fmt.Sprintf("warm/%d", images), func(b *testing.B) {
			for b.Loop() { // what a remembered verdict asks of the store
				if _, _, err := store.Read(cosignRepository, cosignDigest, ""); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("cold/%d", images), func(b *testing.B) {
			j, p := judge.New(evidence.Collector{Store: store}), cosignPolicy(b)
			for b.Loop() {
				if o := j.Judge(b.Context(), p, judge.Request{Repository: cosignRepository, Manifest: cosignDigest}); !o.Allow {
					b.Fatal(o.Code)
				}
			}
		})
		b.Run(fmt.Sprintf("store/%d", images), func(b *testing.B) {
			set, n := cosignSet(b), 0
			set.Digest = fmt.Sprintf("sha256:%064x", 0)
			for b.Loop() {
				n++
				set.Bundles[0].JSON = fmt.Appendf(nil, `{"n":%d}`, n%8)
				if err := store.Put(set, false); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("open/%d", images), func(b *testing.B) {
			for b.Loop() {
				if _, err := evidence.Open(evidence.Config{Dir: dir}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// storeOf fills a store with the evidence of a signed image and of others that were
// only seen.
func storeOf(b *testing.B, dir string, images int) *evidence.Store {
	store, err := evidence.Open(evidence.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	set := cosignSet(b)
	if err := store.Put(set, true); err != nil {
		b.Fatal(err)
	}
	set.Digest = fmt.Sprintf("sha256:%064x", 0)
	if err := store.Put(set, false); err != nil {
		b.Fatal(err)
	}
	first := filepath.Join(dir, cosignRepository+"@sha256="+fmt.Sprintf("%064x", 0))
	for n := range images - 2 {
		linked(b, first, strings.TrimSuffix(first, fmt.Sprintf("%064x", 0))+fmt.Sprintf("%064x", n+1))
	}
	if store, err = evidence.Open(evidence.Config{Dir: dir}); err != nil { // it looks anew
		b.Fatal(err)
	}
	if _, entries := store.Usage(); entries != images {
		b.Fatalf("got %d entries, want %d", entries, images)
	}
	return store
}

// linked makes a folder with the files of another: the store writes each to the disk for
// good, which takes ten milliseconds an image.
func linked(b *testing.B, from, to string) {
	if err := os.Mkdir(to, 0o700); err != nil {
		b.Fatal(err)
	}
	files, err := os.ReadDir(from)
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range files {
		if err := os.Link(filepath.Join(from, file.Name()), filepath.Join(to, file.Name())); err != nil {
			b.Fatal(err)
		}
	}
}
