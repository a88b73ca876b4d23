package layout

import (
	"encoding/json"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What cosign save calls the entries of its index.json, in the annotation "kind".
const (
	kind      = "kind"
	kindImage = "dev.cosignproject.cosign/image"
	kindIndex = "dev.cosignproject.cosign/imageIndex"
	kindSigs  = "dev.cosignproject.cosign/sigs"
	kindAtts  = "dev.cosignproject.cosign/atts"
)

// containerdName is where containerd's export keeps an image's whole name.
const containerdName = "io.containerd.image.name"

// besides are what cosign save calls what lies under tags with these suffixes.
var besides = map[string]string{".sig": kindSigs, ".att": kindAtts}

// tagged gives the digest under a tag: cosign's signatures or attestations of an image,
// what the index calls so, or else the only image that there is.
func (l *Layout) tagged(tag string) string {
	for suffix, of := range besides {
		if hex, ok := strings.CutSuffix(tag, suffix); ok {
			if digest := l.beside(strings.Replace(hex, "-", ":", 1), of); digest != "" {
				return digest
			}
		}
	}
	for _, d := range l.listed {
		if name := d.Annotations[ocispec.AnnotationRefName]; name == tag || strings.HasSuffix(name, ":"+tag) || strings.HasSuffix(d.Annotations[containerdName], ":"+tag) {
			return d.Digest.String()
		}
	}
	if strings.HasPrefix(tag, "sha256-") {
		return ""
	}
	images := l.images()
	if len(images) != 1 {
		return ""
	}
	return images[0]
}

// beside gives what cosign save calls of that kind, if the image beside it is that one.
func (l *Layout) beside(image, of string) (digest string) {
	same := false
	for _, d := range l.listed {
		switch d.Annotations[kind] {
		case kindImage, kindIndex:
			same = same || d.Digest.String() == image
		case of:
			digest = d.Digest.String()
		}
	}
	if !same {
		return ""
	}
	return digest
}

// images gives the listed manifests and indexes that are neither signatures nor refer
// to another.
func (l *Layout) images() (digests []string) {
	for _, d := range l.listed {
		name := d.Annotations[ocispec.AnnotationRefName]
		if k := d.Annotations[kind]; k == kindSigs || k == kindAtts || strings.Contains(name, "sha256-") {
			continue
		}
		if l.subject(d.Digest.String()) == "" { // its artifactType tells nothing: cosign writes the config's there
			digests = append(digests, d.Digest.String())
		}
	}
	return digests
}

// subject gives what a manifest refers to, or "".
func (l *Layout) subject(digest string) string {
	name, ok := blob(digest)
	if !ok {
		return ""
	}
	content, err := l.read(name, maxManifest)
	if err != nil {
		return ""
	}
	return subject(content)
}

func subject(content []byte) string {
	var document struct {
		Subject struct {
			Digest string `json:"digest"`
		} `json:"subject"`
	}
	if json.Unmarshal(content, &document) != nil {
		return ""
	}
	return document.Subject.Digest
}
