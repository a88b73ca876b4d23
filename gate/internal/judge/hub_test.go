package judge_test

import (
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
)

// Docker Hub has several names: cosign signs under index.docker.io, skopeo under
// docker.io, and people write neither.
func TestNamesOfDockerHubInASignature(t *testing.T) {
	const hub = "docker.io/library/alpine"
	for name, want := range map[string]code.Code{
		hub: code.OK, "index.docker.io/library/alpine": code.OK, "docker.io/alpine": code.OK, "library/alpine": code.OK, "alpine": code.OK,
		"index.docker.io/library/alpine:3":    code.OK,
		"registry-1.docker.io/library/alpine": code.OtherImage, "docker.io/evil/alpine": code.OtherImage, "evil.example/library/alpine": code.OtherImage,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.doc.Scopes[hub] = s.doc.Scopes[repository]
			s.request.Repository = hub
			s.registry.sets[s.digest()] = setOf(s.manifest, testsign.Attachment(t, s.key, name, s.digest()))
			o := s.judge(t)
			if want == code.OK {
				allowed(t, o, want)
			} else {
				refused(t, o, want, "")
			}
		})
	}
}
