package bind

import (
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
)

func TestContainerThatCRIDidNotMakeIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(n *fakecontainerd.Node)
	}{
		{"no label", func(n *fakecontainerd.Node) { n.Containers[id].Labels = nil }},
		{"a sandbox", func(n *fakecontainerd.Node) { n.Containers[id].Labels["io.cri-containerd.kind"] = "sandbox" }},
		{"no metadata", func(n *fakecontainerd.Node) { n.Containers[id].Extensions = nil }},
		{"metadata of another version", func(n *fakecontainerd.Node) {
			n.Containers[id].Extensions[metadataExtension].Value = []byte(`{"Version":"v2"}`)
		}},
		{"metadata that is not JSON", func(n *fakecontainerd.Node) { n.Containers[id].Extensions[metadataExtension].Value = []byte(`<`) }},
		{"metadata of another container", func(n *fakecontainerd.Node) {
			v := n.Containers[id].Extensions[metadataExtension]
			v.Value = []byte(strings.ReplaceAll(string(v.Value), id, "other"))
		}},
		{"no config digest", func(n *fakecontainerd.Node) {
			v := n.Containers[id].Extensions[metadataExtension]
			v.Value = []byte(strings.ReplaceAll(string(v.Value), `"ImageRef":"sha256:`, `"ImageRef":"`))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := fakecontainerd.Start(t)
			image := n.Image(t, "layer", "app")
			n.Images[tagged] = image.Target()
			n.Create(t, fakecontainerd.Container{ID: id, Name: tagged, Image: image})
			if _, err := bindIt(t, n, tagged); err != nil {
				t.Fatal(err)
			}
			test.change(n)
			_, err := bindIt(t, n, tagged)
			wantCode(t, err, code.UnsupportedRuntime)
		})
	}
}

func TestParseState(t *testing.T) {
	for _, test := range []struct {
		name, state string
		want        code.Code
	}{
		{"a container", `{"id":"abc","annotations":{"io.kubernetes.cri.container-type":"container"}}`, ""},
		{"a sandbox", `{"id":"abc","annotations":{"io.kubernetes.cri.container-type":"sandbox"}}`, code.UnsupportedRuntime},
		{"no annotations", `{"id":"abc"}`, code.UnsupportedRuntime},
		{"no id", `{"annotations":{"io.kubernetes.cri.container-type":"container"}}`, code.Malformed},
		{"an id with a path", `{"id":"../abc"}`, code.Malformed},
		{"no JSON", `<state>`, code.Malformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseState([]byte(test.state))
			if test.want != "" {
				wantCode(t, err, test.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}
