package bind

import (
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
)

func TestSnapshot(t *testing.T) {
	const uids, gids = "0:100000:65536", "0:200000:65536"
	remapped := func(parent string) string {
		m, _ := mappingOf(map[string]string{labelUIDMapping: uids, labelGIDMapping: gids})
		return remap{Parent: parent, IDMap: m}.name()
	}
	labels := map[string]string{labelUIDMapping: uids, labelGIDMapping: gids}
	for _, test := range []struct {
		name   string
		change func(n *fakecontainerd.Node, chain, other string)
		want   code.Code
	}{
		{"stands on the chain ID", func(n *fakecontainerd.Node, chain, _ string) { n.Snapshot("overlayfs", id, chain, nil) }, ""},
		{"is missing", func(n *fakecontainerd.Node, _, _ string) { delete(n.Snapshots, "overlayfs/"+id) }, code.NotWhatRuns},
		{"stands on another chain ID", func(n *fakecontainerd.Node, _, other string) { n.Snapshot("overlayfs", id, other, nil) }, code.NotWhatRuns},
		{"stands on nothing", func(n *fakecontainerd.Node, _, _ string) { n.Snapshot("overlayfs", id, "", nil) }, code.NotWhatRuns},
		{"is mapped by the snapshotter", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", chain, "below", nil)
			n.Snapshot("overlayfs", id, chain, labels)
		}, ""},
		{"stands on a remapped snapshot", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", remapped(chain), chain, nil)
			n.Snapshot("overlayfs", id, remapped(chain), labels)
		}, ""},
		{"stands on a remapped snapshot of other layers", func(n *fakecontainerd.Node, _, other string) {
			n.Snapshot("overlayfs", remapped(other), other, nil)
			n.Snapshot("overlayfs", id, remapped(other), labels)
		}, code.NotWhatRuns},
		{"stands on a snapshot that only has the remapped one's name", func(n *fakecontainerd.Node, chain, other string) {
			n.Snapshot("overlayfs", remapped(chain), other, nil)
			n.Snapshot("overlayfs", id, remapped(chain), labels)
		}, code.NotWhatRuns},
		{"stands on some snapshot over the chain ID", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", "handmade", chain, nil)
			n.Snapshot("overlayfs", id, "handmade", labels)
		}, code.NotWhatRuns},
		{"stands on a remapped snapshot, without a mapping of its own", func(n *fakecontainerd.Node, chain, _ string) {
			n.Snapshot("overlayfs", remapped(chain), chain, nil)
			n.Snapshot("overlayfs", id, remapped(chain), nil)
		}, code.NotWhatRuns},
		{"is another snapshotter's", func(n *fakecontainerd.Node, chain, _ string) {
			delete(n.Snapshots, "overlayfs/"+id)
			n.Snapshot("native", id, chain, nil)
		}, code.NotWhatRuns},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			image := n.Image(t, "layer", "app")
			other := n.Image(t, "other", "other")
			n.Images[tagged] = image.Target()
			n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image})
			test.change(n, image.Chain, other.Chain)
			_, err := bindIt(t, n, tagged)
			if test.want != "" {
				wantCode(t, err, test.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRemapNameIsContainerds(t *testing.T) {
	// Made by containerd 2.4.2's client and native snapshotter, with WithRemapperLabels(0, 100000, 0, 200000, 65536).
	const parent, name = "sha256:40da8d237383340b08da94badd6b5773258601f90d3e811985d79f682f69fdec", "sha256:91af7ab412d7b7c1b2f6c3b489fc6d13a93101d90145e5cff8544a75b423d17a"
	m, ok := mappingOf(map[string]string{labelUIDMapping: "0:100000:65536", labelGIDMapping: "0:200000:65536"})
	if got := (remap{Parent: parent, IDMap: m}).name(); !ok || got != name {
		t.Errorf("got %s (%v), expected %s", got, ok, name)
	}
}

func TestRemapNameDoesNotDependOnOrder(t *testing.T) {
	one, _ := mappingOf(map[string]string{labelUIDMapping: "0:1000:10", labelGIDMapping: "10:9:1,0:2000:10"})
	other, _ := mappingOf(map[string]string{labelUIDMapping: "0:1000:10", labelGIDMapping: "0:2000:10,10:9:1"})
	if a, b := (remap{IDMap: one}).name(), (remap{IDMap: other}).name(); a != b {
		t.Errorf("%s and %s", a, b)
	}
	for _, bad := range []string{"0:1", "0:1:2:3", "a:b:c", "-1:0:1", "0:0:4294967296"} {
		if _, ok := mappingOf(map[string]string{labelUIDMapping: bad}); ok {
			t.Errorf("%q was taken for a mapping", bad)
		}
	}
}
