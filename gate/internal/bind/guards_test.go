package bind

import (
	"context"
	"testing"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
)

func TestDiffIDsOfAConfig(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    code.Code
	}{
		"right":                      {`{"rootfs":{"diff_ids":["` + digest.FromString("layer").String() + `"]}}`, ""},
		"no rootfs":                  {`{"config":{}}`, code.Malformed},
		"a diff ID that is none":     {`{"rootfs":{"diff_ids":["latest"]}}`, code.Malformed},
		"a diff ID of no known kind": {`{"rootfs":{"diff_ids":["md5:d41d8cd98f00b204e9800998ecf8427e"]}}`, code.Malformed},
		"no JSON":                    {`{`, code.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			ids, err := ParseDiffIDs("sha256:x", []byte(c.content))
			if c.want == "" {
				if err != nil || len(ids) != 1 {
					t.Errorf("got %v, %v", ids, err)
				}
				return
			}
			wantCode(t, err, c.want)
		})
	}
}

// No hook sees a sandbox: what is bound as one has to be one.
func TestSandbox(t *testing.T) {
	for name, c := range map[string]struct {
		change func(n *fakecontainerd.Node, image fakecontainerd.Image)
		want   code.Code
	}{
		"right": {func(*fakecontainerd.Node, fakecontainerd.Image) {}, ""},
		"a container that is no sandbox": {func(n *fakecontainerd.Node, _ fakecontainerd.Image) {
			n.Containers[fakecontainerd.SandboxID].Labels[labelKind] = kindContainer
		}, code.UnsupportedRuntime},
		"a snapshotter that is not listed": {func(n *fakecontainerd.Node, image fakecontainerd.Image) {
			n.Containers[fakecontainerd.SandboxID].Snapshotter = "stargz"
			n.Snapshot("stargz", fakecontainerd.SandboxID, image.Chain, nil)
		}, code.UnsupportedRuntime},
		"no snapshot":  {func(n *fakecontainerd.Node, _ fakecontainerd.Image) { clear(n.Snapshots) }, code.NotWhatRuns},
		"no container": {func(n *fakecontainerd.Node, _ fakecontainerd.Image) { clear(n.Containers) }, code.UnsupportedRuntime},
	} {
		t.Run(name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			image := n.Image(t, "layer", "pause")
			n.Images[tagged] = image.Target()
			n.Sandbox(tagged, image)
			c.change(n, image)
			bound, err := newBinder(t, n.Address).Sandbox(context.Background(), fakecontainerd.SandboxID)
			if c.want == "" {
				if err != nil || bound.Images[0].Candidates[0].Manifest != image.Manifest {
					t.Errorf("got %+v, %v", bound, err)
				}
				return
			}
			wantCode(t, err, c.want)
		})
	}
}

func TestWhatTheNodeHasUnderAName(t *testing.T) {
	for name, want := range map[string]code.Code{tagged: "", "registry.example/other:v1": code.NoRecord, "Registry/App": code.BadReference, "abcdef": code.NoRecord} {
		t.Run(name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			n.Images[tagged] = n.Image(t, "layer", "app").Target()
			found, err := newBinder(t, n.Address).Lookup(context.Background(), name, nil)
			if want == "" {
				if err != nil || len(found) != 1 {
					t.Errorf("got %v, %v", found, err)
				}
				return
			}
			wantCode(t, err, want)
		})
	}
}
