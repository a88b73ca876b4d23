package main

import (
	"archive/tar"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/carried"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/testsign"
)

// carry writes the evidence of the place's image to a file, as evidence.export does.
func (p *place) carry(images ...carried.Image) string {
	p.t.Helper()
	layout := p.saved(false)
	path := filepath.Join(p.t.TempDir(), "evidence.tar")
	file, err := os.Create(path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer file.Close()
	archive := tar.NewWriter(file)
	put := func(name string, content []byte) {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			p.t.Fatal(err)
		}
		if _, err := archive.Write(content); err != nil {
			p.t.Fatal(err)
		}
	}
	document, err := json.Marshal(map[string]any{"version": carried.Version, "images": images})
	if err != nil {
		p.t.Fatal(err)
	}
	put("evidence.json", document)
	err = filepath.WalkDir(layout, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(layout, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		put("0/"+filepath.ToSlash(name), content)
		return err
	})
	if err != nil || archive.Close() != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *place) repository() string { return strings.TrimSuffix(p.name, ":v1") }

func (p *place) own() carried.Image {
	return carried.Image{Name: p.repository(), Digest: p.image.Manifest, Folder: "0"}
}

func TestCarriedEvidenceLetsAnImageStartWithoutItsRegistry(t *testing.T) {
	p := newPlace(t)
	archive := p.carry(p.own())
	p.registry.off = true
	stop := p.start()
	p.want(p.create(), code.NoEvidenceOffline)
	exit, out, stderr := p.do("evidence", "import", archive, "--config", p.config)
	if exit != exitOK || !strings.HasPrefix(out, "1 entries kept: countersign: allowed ") {
		t.Fatalf("exit %d, %s%s", exit, out, stderr)
	}
	p.until("the evidence counts", func() bool { return p.create().Code == code.OK }) // an absence is remembered for a second
	stop()
	p.start()
	v := p.create()
	p.want(v, code.OK)
	if v.Source != string(evidence.FromStore) {
		t.Errorf("from %q", v.Source)
	}
	exit, out, stderr = p.do("evidence", "list", "--json", "--config", p.config)
	var listed struct{ Entries []evidence.Entry }
	if err := json.Unmarshal([]byte(out), &listed); exit != exitOK || err != nil || len(listed.Entries) != 1 {
		t.Fatalf("exit %d, %v, %s%s", exit, err, out, stderr)
	}
	if e := listed.Entries[0]; e.Repository != p.repository() || e.Digest != p.image.Manifest || e.Kept != "proven" {
		t.Errorf("%+v", e)
	}
}

func TestCarriedEvidenceIsJudgedByTheNodesPolicy(t *testing.T) {
	p := newPlace(t)
	archive := p.carry(p.own())
	p.registry.off = true
	p.policy(testsign.NewKey(t))
	exit, out, stderr := p.do("evidence", "import", archive, "--config", p.config)
	if exit != exitRefused || !strings.HasPrefix(out, "refused, nothing kept: ") || !strings.Contains(out, string(code.BadSignature)) {
		t.Errorf("exit %d, %s%s", exit, out, stderr)
	}
	if _, out, _ = p.do("evidence", "list", "--config", p.config); out != "" {
		t.Errorf("kept: %s", out)
	}
	p.policy(p.key)
	if exit, out, stderr = p.do("evidence", "import", archive, "--config", p.config); exit != exitOK {
		t.Errorf("exit %d, %s%s", exit, out, stderr)
	}
}

func TestEvidenceThatCannotBeRead(t *testing.T) {
	p := newPlace(t)
	whole := p.carry(p.own())
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(p.dir, "cut.tar") // within the first file, wherever the others end
	if err := os.WriteFile(cut, content[:520], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no such file":   filepath.Join(p.dir, "gone.tar"),
		"cut off":        cut,
		"names 0 images": p.carry(),
		"its layout":     p.carry(carried.Image{Name: p.repository(), Digest: p.image.Manifest, Folder: "7"}),
		"not a folder":   p.carry(carried.Image{Name: p.repository(), Digest: p.image.Manifest, Folder: "../0"}),
		"evidence":       p.carry(carried.Image{Name: "../" + p.repository(), Digest: p.image.Manifest, Folder: "0"}),
	} {
		exit, out, stderr := p.do("evidence", "import", path, "--config", p.config)
		if exit != exitUsage || out != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, name) {
			t.Errorf("%s: exit %d, %s%s", name, exit, out, stderr)
		}
	}
	if exit, _, stderr := p.do("evidence"); exit != exitUsage || !strings.Contains(stderr, "evidence import FILE|-") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}
