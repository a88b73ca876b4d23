package judge

import (
	"strings"
	"testing"

	"countersign/gate/internal/reference"
)

// What looks like an image ID is none in a signature: containers/image, which judges what
// keys have signed, takes it for the name that it is too.
func TestAPayloadNamesARepositoryAlsoWhereThatLooksLikeAnID(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for name, want := range map[string]string{
		"cafe":                  "docker.io/library/cafe",
		"coffee":                "docker.io/library/coffee",
		"0":                     "docker.io/library/0",
		strings.Repeat("a", 64): "",
	} {
		c, err := parsePayload([]byte(`{"critical":{"identity":{"docker-reference":"` + name + `"},"image":{"docker-manifest-digest":"` + digest + `"},"type":"cosign container image signature"}}`))
		if c.repository != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", name, c.repository, err)
		}
	}
}

// A payload that is read names one digest and one repository, whatever else it says.
func FuzzPayload(f *testing.F) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, name := range []string{"registry.example/app", "registry.example/app:v1", "app@" + digest, "", "x y", "0", "cafe", digest} {
		f.Add([]byte(`{"critical":{"identity":{"docker-reference":"` + name + `"},"image":{"docker-manifest-digest":"` + digest + `"},"type":"cosign container image signature"},"optional":null}`))
	}
	f.Add([]byte(`{"critical":{"type":"atomic container signature"}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := parsePayload(payload)
		if err != nil {
			if c != (claim{}) {
				t.Errorf("%q: %+v beside %v", payload, c, err)
			}
			return
		}
		if err := reference.CheckDigest(c.digest); err != nil {
			t.Errorf("%q: %v", payload, err)
		}
		if err := reference.CheckRepository(c.repository); err != nil {
			t.Errorf("%q: %v", payload, err)
		}
	})
}
