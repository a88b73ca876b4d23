package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
)

// saved gives a layout of the place's image, which has a bundle and an attachment.
func (p *place) saved(cosign bool) string {
	p.t.Helper()
	pusher := testsign.Pusher{Handler: p.registry.Handler, Path: "demo/app"}
	pusher.Attachments(p.t, p.image.Manifest, testsign.Attachment(p.t, p.key, strings.TrimSuffix(p.name, ":v1"), p.image.Manifest))
	return pusher.Layout(p.t, p.image.Manifest, cosign)
}

func TestVerifyOfAFolder(t *testing.T) {
	p := newPlace(t)
	manifest := func(dir string) string {
		return filepath.Join(dir, "blobs", strings.Replace(p.image.Manifest, ":", "/", 1))
	}
	all := func(dir string, do func(path string)) {
		paths, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			do(path)
		}
	}
	for _, test := range []struct {
		name   string
		image  string
		change func(dir string)
		want   code.Code
		saying string
	}{
		{"as it is", "", nil, code.OK, ""},
		{"by its digest", "@" + p.image.Manifest, nil, code.OK, ""},
		{"by another digest", "@" + testsign.Digest([]byte("another")), nil, code.RegistryError, "has no sha256:"},
		{"another manifest under its digest", "", func(dir string) { rewrite(t, manifest(dir), func(s string) string { return s + " " }) }, code.Tampered, ""},
		{"a manifest in a link out of the folder", "", func(dir string) { moved(t, manifest(dir)) }, code.RegistryError, "path escapes"},
		{"a manifest that is a pipe", "", func(dir string) { piped(t, manifest(dir)) }, code.RegistryError, "is not a file"},
		{"signatures whose content was changed", "", func(dir string) {
			all(dir, func(path string) {
				rewrite(t, path, func(s string) string {
					return strings.Replace(s, testsign.SignatureAnnotation, strings.ToUpper(testsign.SignatureAnnotation), 1)
				})
				rewrite(t, path, func(s string) string { return strings.Replace(s, `"messageSignature"`, `"MessageSignature"`, 1) })
				rewrite(t, path, func(s string) string { return strings.Replace(s, `"dsseEnvelope"`, `"DsseEnvelope"`, 1) })
			})
		}, code.Tampered, ""},
	} {
		for form, cosign := range map[string]bool{"cosign": true, "listed": false} {
			t.Run(test.name+", "+form, func(t *testing.T) {
				dir := p.saved(cosign)
				if test.change != nil {
					test.change(dir)
				}
				name := p.name
				if test.image != "" {
					name = strings.TrimSuffix(p.name, ":v1") + test.image
				}
				exit, out, stderr := p.do("verify", name, "--policy", p.policy(p.key), "--layout", dir, "--json")
				if (exit == exitOK) != test.want.Allows() || !strings.Contains(out, `"`+string(test.want)+`"`) || !strings.Contains(out, test.saying) {
					t.Errorf("exit %d, %s%s", exit, out, stderr)
				}
				if test.want == code.OK && !strings.Contains(out, `"source": "layout"`) {
					t.Errorf("it was not read from the folder: %s", out)
				}
			})
		}
	}
	if p.registry.asked > 0 {
		t.Errorf("the registry was asked %d times", p.registry.asked)
	}
}

func TestVerifyOfAFolderUsage(t *testing.T) {
	p := newPlace(t)
	dir, empty, key := p.saved(true), t.TempDir(), p.keyFile("good.pub", p.key)
	many := t.TempDir()
	if err := os.WriteFile(filepath.Join(many, "index.json"), []byte(`{"manifests": [`+strings.Repeat(`{},`, 1024)+`{}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"--key", key, "--layout", dir}, exitOK, ""},
		{[]string{"--layout", dir}, exitUsage, "--layout goes with --key or --policy"},
		{[]string{"--key", key, "--layout", dir, "--docker-config", "x"}, exitUsage, "none is asked"},
		{[]string{"--key", key, "--layout", filepath.Join(dir, "none")}, exitUsage, "no such file"},
		{[]string{"--key", key, "--layout", empty}, exitUsage, "not an image layout: "},
		{[]string{"--key", key, "--layout", key}, exitUsage, "not a directory"},
		{[]string{"--key", key, "--layout", many}, exitUsage, "over 1024 manifests"},
	} {
		exit, _, stderr := p.do(append([]string{"verify", p.name}, test.args...)...)
		if exit != test.exit || !strings.Contains(stderr, test.says) || test.says != "" && strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q", test.args, exit, stderr)
		}
	}
}

// Which image a tag means in a folder: what the index calls so, or the only one.
func TestTagsInAFolder(t *testing.T) {
	p := newPlace(t)
	listing := func(entries ...string) string {
		dir := p.saved(false)
		index := `{"schemaVersion": 2, "manifests": [` + strings.Join(entries, ",") + `]}`
		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(index), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	entry := func(digest, annotation, value string) string {
		return `{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "` + digest + `", "size": 1, "annotations": {"` + annotation + `": "` + value + `"}}`
	}
	image, other := p.image.Manifest, testsign.Digest([]byte("other"))
	for _, test := range []struct {
		name string
		dir  string
		want code.Code
	}{
		{"the only one", listing(entry(image, "x", "y")), code.OK},
		{"by its tag", listing(entry(other, "org.opencontainers.image.ref.name", "v2"), entry(image, "org.opencontainers.image.ref.name", "v1")), code.OK},
		{"by its name", listing(entry(other, "x", "y"), entry(image, "org.opencontainers.image.ref.name", p.name)), code.OK},
		{"by containerd's name", listing(entry(other, "x", "y"), entry(image, "io.containerd.image.name", p.name)), code.OK},
		{"one of two", listing(entry(other, "x", "y"), entry(image, "x", "y")), code.RegistryError},
		{"none", listing(), code.RegistryError},
	} {
		t.Run(test.name, func(t *testing.T) {
			exit, out, stderr := p.do("verify", p.name, "--policy", p.policy(p.key), "--layout", test.dir, "--json")
			if (exit == exitOK) != test.want.Allows() || !strings.Contains(out, `"`+string(test.want)+`"`) {
				t.Errorf("exit %d, %s%s", exit, out, stderr)
			}
		})
	}
}

func rewrite(t *testing.T, path string, how func(string) string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(how(string(content))), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// moved puts a file outside of its folder, and a link to it in its place.
func moved(t *testing.T, path string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "outside")
	if err := os.Rename(path, to); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func piped(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}
