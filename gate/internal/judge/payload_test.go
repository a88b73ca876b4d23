package judge

import (
	"strings"
	"testing"

	"countersign/gate/internal/reference"
)

// A payload that is read names one digest and one repository, whatever else it says.
func FuzzPayload(f *testing.F) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, name := range []string{"registry.example/app", "registry.example/app:v1", "app@" + digest, "", "x y"} {
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
