package main

import (
	"encoding/json"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/testsign"
)

const provenance = "https://slsa.dev/provenance/v1"

// inspected runs the command and reads what it prints.
func (p *place) inspected(args ...string) inspected {
	p.t.Helper()
	exit, out, stderr := p.do(append([]string{"inspect"}, args...)...)
	var found inspected
	if err := json.Unmarshal([]byte(out), &found); exit != exitOK || err != nil {
		p.t.Fatalf("exit %d, %v: %s%s", exit, err, out, stderr)
	}
	return found
}

func TestInspectFindsWhatHangsOnAnImage(t *testing.T) {
	p := newPlace(t)
	pusher := testsign.Pusher{Handler: p.registry.Handler, Path: "demo/app"}
	statement := testsign.StatementOf(t, "v1", provenance, map[string]any{}, p.image.Manifest)
	pusher.Bundles(t, p.image.Manifest, false, testsign.BundleOf(t, p.key, statement))
	repository, _, _ := strings.Cut(p.name, ":v1")
	pusher.Attachments(t, p.image.Manifest, testsign.Attachment(t, p.key, repository, p.image.Manifest))
	gone := pusher.Image(t, "gone")
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{
		map[string]any{"mediaType": ocispec.MediaTypeImageManifest, "digest": p.image.Manifest, "size": 1, "platform": map[string]any{"os": "linux", "architecture": "amd64"}},
		map[string]any{"mediaType": ocispec.MediaTypeImageManifest, "digest": gone, "size": 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	pusher.Manifest(t, index, ocispec.MediaTypeImageIndex, "index")
	pusher.Delete(t, gone)
	t.Setenv("TMPDIR", t.TempDir())
	found := p.inspected(repository+":index", "--policy", p.policy(p.key))
	if found.Version != inspectedVersion || found.Scope != repository || found.Policy == "" || len(found.Digests) != 2 {
		t.Fatalf("%+v", found)
	}
	if len(found.Digests[0].Problems) != 1 || found.Digests[0].Kind != "index" {
		t.Errorf("a manifest that is missing: %+v", found.Digests[0])
	}
	image := found.Digests[1]
	if image.Platform != "linux/amd64" || image.Digest != p.image.Manifest || len(image.Problems) != 0 || len(image.Signatures) != 3 {
		t.Fatalf("%+v", image)
	}
	types := map[string]bool{}
	for _, s := range image.Signatures {
		types[s.Format+" "+s.PredicateType] = true
		if len(s.Roots) != 1 || !s.Roots[0].OK {
			t.Errorf("%+v", s)
		}
	}
	if !types["attachment "] || !types["bundle "+provenance] || len(types) != 3 {
		t.Errorf("%v", types)
	}
	for _, s := range p.inspected(p.name).Digests[0].Signatures {
		if len(s.Roots) != 0 {
			t.Errorf("an opinion without a policy: %+v", s)
		}
	}
}

func TestInspectRefusesWhatIsNoImage(t *testing.T) {
	p := newPlace(t)
	for name, want := range map[string]int{"Registry/App": exitUsage, strings.Repeat("ab", 32): exitUsage, p.name[:len(p.name)-1] + "2": exitInfrastructure} {
		exit, out, stderr := p.do("inspect", name)
		if exit != want || out != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q %q", name, exit, out, stderr)
		}
	}
}

func TestAPlatformIsNamedShortly(t *testing.T) {
	for name, row := range map[string]struct {
		platform *ocispec.Platform
		want     string
	}{
		"none":     {nil, ""},
		"plain":    {&ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, "linux/arm/v7"},
		"no third": {&ocispec.Platform{OS: "linux", Architecture: "amd64"}, "linux/amd64"},
		"hostile":  {&ocispec.Platform{OS: "linux\u202e\u009b", Architecture: strings.Repeat("x", 1<<20)}, `linux\u202e\u009b/` + strings.Repeat("x", 64)},
	} {
		got := platformName(row.platform)
		if len(got) > 80 || !strings.HasPrefix(row.want, strings.TrimSuffix(got, "…")) || (name != "hostile" && got != row.want) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
