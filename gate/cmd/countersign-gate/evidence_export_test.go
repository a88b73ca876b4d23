package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/carried"
	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/testsign"
)

// kept has the evidence that allowed the place's image on the node, its registry gone.
func (p *place) kept() {
	p.t.Helper()
	archive := p.carry(p.own())
	p.registry.off = true
	if exit, out, stderr := p.do("evidence", "import", archive, "--config", p.config); exit != exitOK {
		p.t.Fatalf("exit %d, %s%s", exit, out, stderr)
	}
}

// forget empties the node's evidence store.
func (p *place) forget() {
	p.t.Helper()
	if err := os.RemoveAll(filepath.Join(p.dir, "evidence")); err != nil {
		p.t.Fatal(err)
	}
}

func TestWhatANodeKeepsLetsTheImageStartOnAnother(t *testing.T) {
	p := newPlace(t)
	p.kept()
	archive := filepath.Join(t.TempDir(), "own.tar")
	exit, out, stderr := p.do("evidence", "export", archive, "--json", "--config", p.config)
	var document struct{ Images []exported }
	if err := json.Unmarshal([]byte(out), &document); exit != exitOK || err != nil || len(document.Images) != 1 || document.Images[0].Signatures < 1 {
		t.Fatalf("exit %d, %v, %s%s", exit, err, out, stderr)
	}
	p.forget()
	p.start()
	p.want(p.create(), code.NoEvidenceOffline)
	if exit, out, stderr = p.do("evidence", "import", archive, "--config", p.config); exit != exitOK {
		t.Fatalf("exit %d, %s%s", exit, out, stderr)
	}
	p.until("the evidence counts", func() bool { return p.create().Code == code.OK })
}

func TestAnExportIsJudgedByThePolicyOfTheNodeThatImportsIt(t *testing.T) {
	p := newPlace(t)
	p.kept()
	archive := filepath.Join(t.TempDir(), "own.tar")
	if exit, out, stderr := p.do("evidence", "export", archive, "--config", p.config); exit != exitOK {
		t.Fatalf("exit %d, %s%s", exit, out, stderr)
	}
	p.forget()
	p.policy(testsign.NewKey(t))
	exit, out, _ := p.do("evidence", "import", archive, "--config", p.config)
	if exit != exitRefused || !strings.Contains(out, string(code.BadSignature)) {
		t.Errorf("exit %d, %s", exit, out)
	}
	p.policy(p.key)
	if exit, out, stderr := p.do("evidence", "import", archive, "--config", p.config); exit != exitOK {
		t.Errorf("exit %d, %s%s", exit, out, stderr)
	}
}

// An index is signed, and the store has no manifest of it: those are on the nodes that run them.
func TestAnIndexIsExportedWithoutItsManifests(t *testing.T) {
	for _, test := range []struct {
		name   string
		signed func(t *testing.T, p *place, digest string) evidence.Set
		want   code.Code
	}{
		{"by an attachment", func(t *testing.T, p *place, digest string) evidence.Set {
			return evidence.Set{Attachments: []evidence.Attachment{testsign.Attachment(t, p.key, p.repository(), digest)}}
		}, code.OK},
		{"by a bundle", func(t *testing.T, p *place, digest string) evidence.Set {
			return evidence.Set{Bundles: []evidence.Bundle{testsign.Bundle(t, p.key, digest)}}
		}, code.OK},
		{"by another's bundle", func(t *testing.T, p *place, digest string) evidence.Set {
			return evidence.Set{Bundles: []evidence.Bundle{testsign.Bundle(t, testsign.NewKey(t), digest)}}
		}, code.BadSignature},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			index := p.node.InIndex(t, p.image)
			digest := index.Target()
			set := test.signed(t, p, digest)
			set.Repository, set.Digest, set.Manifest = p.repository(), digest, p.node.Blobs[digest]
			store, err := openStore(p.settings)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Put(set, true); err != nil {
				t.Fatal(err)
			}
			p.registry.off = true
			archive := filepath.Join(t.TempDir(), "own.tar")
			if exit, out, stderr := p.do("evidence", "export", archive, "--image", p.repository(), "--config", p.config); exit != exitOK {
				t.Fatalf("exit %d, %s%s", exit, out, stderr)
			}
			p.forget()
			exit, out, stderr := p.do("evidence", "import", archive, "--json", "--config", p.config)
			var document struct{ Images []imported }
			if err := json.Unmarshal([]byte(out), &document); err != nil || len(document.Images) != 1 {
				t.Fatalf("exit %d, %v, %s%s", exit, err, out, stderr)
			}
			if one := document.Images[0]; one.Code != string(test.want) || (one.Kept == 1) != test.want.Allows() {
				t.Errorf("%+v", one)
			}
		})
	}
}

func TestAnExportToStdoutIsAnArchive(t *testing.T) {
	p := newPlace(t)
	p.kept()
	exit, out, stderr := p.do("evidence", "export", "-", "--config", p.config)
	images, err := carried.Unpack(bytes.NewReader([]byte(out)), t.TempDir())
	if exit != exitOK || err != nil || len(images) != 1 || images[0].Digest != p.image.Manifest {
		t.Fatalf("exit %d, %v, %+v, %s", exit, err, images, stderr)
	}
}

func TestWhatCannotBeExported(t *testing.T) {
	p := newPlace(t)
	there := filepath.Join(p.dir, "there.tar")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(p.dir, "fresh.tar")
	want := func(saying string, words ...string) {
		t.Helper()
		exit, out, stderr := p.do(append([]string{"evidence", "export", "--config", p.config}, words...)...)
		if exit != exitUsage || out != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, saying) {
			t.Errorf("%s: exit %d, %s%s", saying, exit, out, stderr)
		}
	}
	want("keeps no evidence that has proven itself", fresh)
	p.kept()
	want("is there already", there)
	want("a store knows no tags", fresh, "--image", p.name)
	want("keeps no evidence of it", fresh, "--image", p.repository()+"/other")
	want("expected NAME@sha256:HEX", fresh, "--image", p.repository()+"@sha256:abc")
	exit, out, stderr := p.do("evidence", "export", "-", "--json", "--config", p.config)
	if exit != exitUsage || !strings.Contains(out, errorVersion) || !strings.Contains(stderr, "can't both go to stdout") {
		t.Errorf("exit %d, %s%s", exit, out, stderr)
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("something was written")
	}
	if content, err := os.ReadFile(there); err != nil || string(content) != "mine" {
		t.Errorf("%s, %v", content, err)
	}
	if exit, _, stderr := p.do("evidence", "export", fresh, "--image", p.repository()+"@"+p.image.Manifest, "--config", p.config); exit != exitOK {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}
