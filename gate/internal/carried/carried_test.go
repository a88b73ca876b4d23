package carried

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
)

const document = `{"version":"countersign.evidence/v1","images":[{"name":"r.example/app","digest":"sha256:` + sixtyFour + `","folder":"0"}]}`

const sixtyFour = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// archive gives one with what every archive has, and these members.
func archive(t *testing.T, more ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, content string) {
		h.Mode = 0o644
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Size == 0 && h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(content)); err != nil && h.Size >= int64(len(content)) {
				t.Fatal(err)
			}
		}
	}
	put(tar.Header{Name: "evidence.json"}, document)
	put(tar.Header{Name: "0/index.json"}, "{}")
	for _, h := range more {
		put(h, "x")
	}
	_ = w.Close() // a member may be shorter than its header says
	return &b
}

func TestUnpack(t *testing.T) {
	for _, test := range []struct {
		name   string
		member tar.Header
		saying string // "" where it is taken
	}{
		{"a blob", tar.Header{Name: "0/blobs/sha256/" + sixtyFour}, ""},
		{"a blob by a short name", tar.Header{Name: "0/blobs/sha256/abc"}, "not part of evidence"},
		{"a way out", tar.Header{Name: "../0/index.json"}, "not part of evidence"},
		{"a way out from inside", tar.Header{Name: "0/blobs/../../x"}, "not part of evidence"},
		{"an absolute name", tar.Header{Name: "/etc/passwd"}, "not part of evidence"},
		{"a link", tar.Header{Name: "0/oci-layout", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, "is not a file"},
		{"a hard link", tar.Header{Name: "0/oci-layout", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}, "is not a file"},
		{"a device", tar.Header{Name: "0/oci-layout", Typeflag: tar.TypeChar}, "is not a file"},
		{"a folder", tar.Header{Name: "0/blobs/", Typeflag: tar.TypeDir}, "is not a file"},
		{"a second one", tar.Header{Name: "0/index.json"}, "is a duplicate"},
		{"one too large", tar.Header{Name: "0/oci-layout", Size: maxFile + 1}, "has over"},
		{"one cut off", tar.Header{Name: "0/oci-layout", Size: 4096}, "cut off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			images, err := Unpack(archive(t, test.member), t.TempDir())
			if test.saying == "" {
				if err != nil || len(images) != 1 || images[0].Name != "r.example/app" {
					t.Errorf("%v, %v", images, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.saying) {
				t.Error(err)
			}
		})
	}
}

func TestAnArchiveThatWasCutOffBetweenItsFilesIsSaidToBe(t *testing.T) {
	whole := archive(t, tar.Header{Name: "0/blobs/sha256/" + sixtyFour}).Bytes()
	if _, err := Unpack(bytes.NewReader(whole), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	cuts := 0
	for at := 0; at < len(whole)-2*blockSize; at += blockSize {
		_, err := Unpack(bytes.NewReader(whole[:at]), t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("at %d: %v", at, err)
		}
		cuts++
	}
	if cuts != 6 {
		t.Errorf("%d cuts", cuts)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("evidence.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		images, err := Unpack(bytes.NewReader(data), t.TempDir())
		if err == nil && len(images) == 0 {
			t.Error("no images and no error")
		}
	})
}
