package bind

import (
	"errors"
	"testing"

	"countersign/gate/internal/code"
)

// What comes from outside ends in a result or a refusal, and in nothing else.
func isRefusal(t *testing.T, err error) {
	t.Helper()
	var refusal *code.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Errorf("%v is not a refusal", err)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"id":"abc","annotations":{"io.kubernetes.cri.container-type":"container"}}`))
	f.Add([]byte(`{"id":"../abc"}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		state, err := ParseState(content)
		isRefusal(t, err)
		if err == nil && (!containerID.MatchString(state.ID) || state.Annotations[annotationType] != kindContainer) {
			t.Errorf("got %+v", state)
		}
	})
}

func FuzzParseDocument(f *testing.F) {
	f.Add([]byte(`{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:1"}]}`))
	f.Add([]byte(`{"config":{"digest":"sha256:1"},"layers":[]}`))
	f.Add([]byte(`{"config":{},"manifests":[]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		document, err := ParseDocument("sha256:0", content)
		isRefusal(t, err)
		if err == nil && document.IsIndex && document.Config != "" {
			t.Errorf("both index and manifest: %+v", document)
		}
		if err == nil && len(document.Children) > maxManifests {
			t.Errorf("%d children", len(document.Children))
		}
	})
}

func FuzzParseChain(f *testing.F) {
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, err := parseChain("sha256:0", content)
		isRefusal(t, err)
	})
}

func FuzzParseMapping(f *testing.F) {
	f.Add("0:100000:65536,1:2:3")
	f.Fuzz(func(t *testing.T, text string) {
		if mappings, ok := parseMapping(text); ok && text != "" && len(mappings) == 0 {
			t.Errorf("%q is a mapping of nothing", text)
		}
	})
}
