package crio

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/bind"
	"countersign/gate/internal/code"
)

func TestBindsWhatRuns(t *testing.T) {
	w := newWorld(t)
	app := w.images[0]
	w.annotations = map[string]string{annotationImage: tagged, annotationImageRef: app.id, annotationNamespace: "ns", annotationPod: "pod"}
	bound, err := w.bind()
	if err != nil {
		t.Fatal(err)
	}
	want := bind.Candidate{Index: app.index, Manifest: app.manifest, Config: app.config}
	if len(bound.Images) != 1 || bound.Images[0].Repository != repository || len(bound.Images[0].Candidates) != 1 || bound.Images[0].Candidates[0] != want {
		t.Errorf("got %+v", bound.Images)
	}
	if bound.Pod != "ns/pod" || len(bound.Raw) != 2 {
		t.Errorf("pod %q, %d documents", bound.Pod, len(bound.Raw))
	}
}

// Each case differs from the one that binds in one thing.
func TestBinding(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(w *world, app, other *picture)
		want   code.Code
	}{
		{"as CRI-O left it", func(*world, *picture, *picture) {}, ""},
		{"driver vfs", func(w *world, _, _ *picture) { w.driver = "vfs" }, ""},
		{"another tag of the repository, the name moved meanwhile", func(w *world, app, other *picture) {
			app.names, other.names = []string{repository + ":v0"}, []string{tagged}
		}, ""},
		{"the name moved, and no other name of the repository is left", func(w *world, app, other *picture) {
			app.names, other.names = nil, []string{tagged}
		}, code.NotWhatRuns},
		{"no image has a name of the repository", func(w *world, app, _ *picture) { app.names = []string{"registry.example/third:v1"} }, code.NoRecord},
		{"a name that no image has", func(w *world, _, _ *picture) { w.name = "registry.example/third:v1" }, code.NoRecord},
		{"a name of another image", func(w *world, _, other *picture) { w.name = other.names[0] }, code.NotWhatRuns},
		{"the digest of the index", func(w *world, app, _ *picture) { w.name = repository + "@" + app.index }, ""},
		{"the digest of the manifest", func(w *world, app, _ *picture) { w.name = repository + "@" + app.manifest }, ""},
		{"a digest of another image", func(w *world, _, other *picture) { w.name = repository + "@" + other.manifest }, code.NotWhatRuns},
		{"a sandbox, by the digest of its image", func(w *world, app, _ *picture) {
			w.name, w.meta["pod"], w.meta["pod-id"] = repository+"@"+app.index, true, id
			w.annotations[annotationImage], w.annotations["io.kubernetes.cri-o.ContainerType"] = w.name, "sandbox"
		}, ""},
		{"no name", func(w *world, _, _ *picture) { w.name = "" }, code.UnsupportedRuntime},
		{"an unparsable name", func(w *world, _, _ *picture) { w.name = "Registry/UPPER" }, code.BadReference},
		{"no pod: another tool's container", func(w *world, _, _ *picture) { w.meta["pod-id"] = "" }, code.UnsupportedRuntime},
		{"metadata that is not JSON", func(w *world, _, _ *picture) { w.containers[0]["metadata"] = "{" }, code.UnsupportedRuntime},
		{"no record of the container", func(w *world, _, _ *picture) { w.containers[0]["id"] = sandbox }, code.UnsupportedRuntime},
		{"another image in the metadata", func(w *world, _, other *picture) { w.meta["image-id"] = other.id }, code.NotWhatRuns},
		{"another image in the record", func(w *world, app, other *picture) {
			w.meta["image-id"], w.containers[0]["image"], other.names = other.id, other.id, []string{tagged}
		}, code.NotWhatRuns}, // whose layers are others
		{"an annotation with another name", func(w *world, _, _ *picture) { w.annotations[annotationImage] = "registry.example/other:v1" }, code.NotWhatRuns},
		{"an annotation with another image", func(w *world, _, other *picture) { w.annotations[annotationImageRef] = other.id }, code.NotWhatRuns},
		{"two records of the container", func(w *world, app, _ *picture) {
			w.write(filepath.Join(w.runRoot, "overlay-containers", "volatile-containers.json"), []map[string]any{{"id": id, "image": app.id, "layer": "own"}})
		}, code.NotWhatRuns},
		{"no record of the image", func(w *world, _, other *picture) { w.images = []*picture{other} }, code.NoRecord},

		{"the layer stands on another image's", func(w *world, _, other *picture) { w.volatile[0]["parent"] = other.top }, code.NotWhatRuns},
		{"the layer stands on nothing", func(w *world, _, _ *picture) { w.volatile[0]["parent"] = "" }, code.NotWhatRuns},
		{"no layer", func(w *world, _, _ *picture) { w.volatile = nil }, code.NotWhatRuns},
		{"a mapped copy of the top layer", func(w *world, app, _ *picture) {
			w.layers = append(w.layers, map[string]any{"id": "mapped", "parent": w.layers[0]["id"], "diff-digest": app.diffs[1]})
			app.mapped, w.volatile[0]["parent"] = []string{"mapped"}, "mapped"
		}, ""},
		{"a mapped copy that the image does not name", func(w *world, app, _ *picture) {
			w.layers = append(w.layers, map[string]any{"id": "mapped", "parent": w.layers[0]["id"], "diff-digest": app.diffs[1]})
			w.volatile[0]["parent"] = "mapped"
		}, code.NotWhatRuns},
		{"a mapped layer with other content", func(w *world, app, other *picture) {
			w.layers = append(w.layers, map[string]any{"id": "mapped", "parent": w.layers[0]["id"], "diff-digest": other.diffs[1]})
			app.mapped, w.volatile[0]["parent"] = []string{"mapped"}, "mapped"
		}, code.NotWhatRuns},
		{"a layer with another diff ID", func(w *world, _, _ *picture) { w.layers[0]["diff-digest"] = digest.FromString("?") }, code.NotWhatRuns},
		{"one layer more", func(w *world, _, other *picture) { w.layers[0]["parent"] = other.top }, code.NotWhatRuns},
		{"one layer less", func(w *world, app, _ *picture) { w.layers[1]["parent"] = "" }, code.NotWhatRuns},
		{"a layer known by its table of contents only", func(w *world, _, _ *picture) {
			delete(w.layers[0], "diff-digest")
			w.layers[0]["toc-digest"] = digest.FromString("toc")
		}, code.UnsupportedRuntime},
		{"a partial pull: the image's ID is not a config digest", func(w *world, app, _ *picture) {
			app.id = digest.FromString("partial").Encoded()
			w.containers[0]["image"] = app.id
		}, code.UnsupportedRuntime},

		{"a tampered manifest", func(w *world, app, _ *picture) {
			app.data["manifest-"+app.manifest] = append(app.data["manifest-"+app.manifest], ' ')
			delete(app.data, "manifest")
		}, code.Tampered},
		{"a tampered index, whose manifest stands alone", func(w *world, app, _ *picture) {
			app.data["manifest-"+app.index] = append(app.data["manifest-"+app.index], ' ')
		}, ""},
		{"a tampered config", func(w *world, app, _ *picture) { app.data[app.config] = append(app.data[app.config], ' ') }, code.Tampered},
		{"no config", func(w *world, app, _ *picture) { delete(app.data, app.config) }, code.NotWhatRuns},
		{"a manifest that is none", func(w *world, app, _ *picture) {
			app.data = map[string][]byte{"manifest": []byte(`{"schemaVersion":1,"fsLayers":[]}`)}
		}, code.Malformed},

		{"an image volume", func(w *world, _, _ *picture) {
			w.mounts = []map[string]any{{"destination": "/v", "type": "overlay", "source": "overlay", "options": []string{"lowerdir=/a:/b"}}}
		}, code.UnsupportedRuntime},
		{"an OCI artifact", func(w *world, _, _ *picture) {
			w.mounts = []map[string]any{{"destination": "/v", "type": "bind", "source": filepath.Join(w.root, "artifacts/blobs/sha256/0")}}
		}, code.UnsupportedRuntime},
		{"a folder of the host", func(w *world, _, _ *picture) {
			w.mounts = []map[string]any{{"destination": "/v", "type": "bind", "source": "/srv", "options": []string{"rbind", "ro"}}, {"destination": "/proc", "type": "proc", "source": "proc"}}
		}, ""},
		{"another bundle", func(w *world, _, _ *picture) { w.bundle = "/run/elsewhere" }, code.UnsupportedRuntime},
		{"a restored checkpoint", func(w *world, _, _ *picture) {
			w.write(filepath.Join(w.root, "overlay-containers", id, "userdata", "checkpoint", "x.img"), []byte("x"))
		}, code.UnsupportedRuntime},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			app, other := w.images[0], w.image("other", "registry.example/other:v1")
			test.change(w, app, other)
			bound, err := w.bind()
			if got := codeOf(err); got != test.want {
				t.Fatalf("got %q (%v), expected %q", got, err, test.want)
			}
			if err == nil && (bound.Images[0].Candidates[0].Manifest != app.manifest || bound.Images[0].Repository != repository) {
				t.Errorf("got %+v", bound.Images)
			}
		})
	}
}

func TestANameInIDFormIsJudgedUnderEveryNameOfTheImage(t *testing.T) {
	w := newWorld(t)
	app := w.images[0]
	app.names = append(app.names, "registry.example/mirror:v1", tagged+"-again")
	w.name = app.id // as the kubelet writes it
	bound, err := w.bind()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, image := range bound.Images {
		got = append(got, image.Repository)
	}
	if fmt.Sprint(got) != "[registry.example/app registry.example/mirror]" || !bound.Images[0].ByID || !bound.Images[1].ByID {
		t.Errorf("got %v", got)
	}
	app.names = []string{tagged}
	if bound, err = w.bind(); err != nil || len(bound.Images) != 1 || bound.Images[0].ByID {
		t.Errorf("one name: %+v, %v", bound.Images, err)
	}
	app.names = nil // then only a pin can allow it
	if bound, err = w.bind(); err != nil || len(bound.Images) != 1 || bound.Images[0].Repository != "" {
		t.Errorf("without names: %+v, %v", bound.Images, err)
	}
	for i := range maxRepositories + 1 {
		app.names = append(app.names, fmt.Sprintf("registry.example/r%d:v1", i))
	}
	if _, err = w.bind(); codeOf(err) != code.Malformed {
		t.Errorf("too many names: %v", err)
	}
}

func TestTheStateMustBeOfAContainerOfCRIO(t *testing.T) {
	b := New(Config{})
	for _, content := range []string{`{"id": "short"}`, `{"id": "../../etc"}`, `{`} {
		if _, err := b.State([]byte(content)); err == nil {
			t.Errorf("%s was taken", content)
		}
	}
}

func TestStorageThatCannotBeReadIsNoRecord(t *testing.T) {
	w := newWorld(t)
	w.store()
	file := filepath.Join(w.root, "overlay-images", "images.json")
	state := &bind.State{ID: id, Bundle: w.bundle}
	if err := os.WriteFile(file, []byte(`[{"id": "ha`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.binder.Container(context.Background(), state, nil); codeOf(err) != code.RuntimeUnreachable {
		t.Errorf("half written: %v", err)
	}
	if err := os.RemoveAll(w.root); err != nil {
		t.Fatal(err)
	}
	if _, err := w.binder.Container(context.Background(), state, nil); codeOf(err) != code.RuntimeUnreachable {
		t.Errorf("no storage: %v", err)
	}
}

func TestAFileThatIsReplacedIsReadAgain(t *testing.T) {
	w := newWorld(t)
	w.store()
	past := time.Now().Add(-time.Hour)
	file := filepath.Join(w.root, "overlay-images", "images.json")
	replace := func(p *picture) {
		content, _ := json.Marshal([]map[string]any{{"id": p.id, "names": p.names}})
		w.write(file+".new", content)
		if err := os.Chtimes(file+".new", past, past); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	app, other := w.images[0], w.image("other", tagged) // as long, and as old
	for _, p := range []*picture{app, other, app} {
		replace(p)
		for range 2 {
			records, err := w.binder.store.imagesOf(context.Background(), "overlay")
			if _, ok := records[p.id]; err != nil || !ok || len(records) != 1 {
				t.Fatalf("got %v, %v", records, err)
			}
		}
	}
}

func TestOneContainerAloneIsExplained(t *testing.T) {
	for name, other := range map[string]string{"the only one that begins so": strings.Repeat("0", 64), "another begins so too": id[:12] + strings.Repeat("0", 52)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.containers = append(w.containers, map[string]any{"id": other, "image": w.images[0].id, "layer": "own"})
			w.store()
			want := code.Code("")
			if other[:12] == id[:12] {
				want = code.BadReference
			}
			if state, err := w.binder.Live(context.Background(), id[:12]); codeOf(err) != want || err == nil && state.ID != id {
				t.Errorf("got %+v, %v", state, err)
			}
		})
	}
}

func TestLiveAndLookup(t *testing.T) {
	w := newWorld(t)
	app := w.images[0]
	w.store()
	ctx := context.Background()
	state, err := w.binder.Live(ctx, id[:12])
	if err != nil || state.ID != id || state.Bundle != w.bundle {
		t.Fatalf("got %+v, %v", state, err)
	}
	if _, err := w.binder.Container(ctx, state, nil); err != nil {
		t.Error(err)
	}
	if _, err := w.binder.Live(ctx, "ffff"); codeOf(err) != code.BadReference {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{tagged, repository + "@" + app.manifest, app.id, "sha256:" + app.id} {
		if found, err := w.binder.Lookup(ctx, name, nil); err != nil || len(found) != 1 || found[0].Manifest != app.manifest {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	for _, name := range []string{"registry.example/third:v1", repository + "@" + digest.FromString("?").String(), strings.Repeat("0", 64)} {
		if _, err := w.binder.Lookup(ctx, name, nil); codeOf(err) != code.NoRecord {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnImageIsSignedInStorageWhereAPullFoundSignatures(t *testing.T) {
	for name, key := range map[string]string{"pulled before": "", "pulled with signatures": "signature-" + strings.Repeat("a", 64)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if key != "" {
				w.images[0].data[key] = []byte("{}")
			}
			w.store()
			if got, err := w.binder.Signed(context.Background(), id); err != nil || got != (key != "") {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
