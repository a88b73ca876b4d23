package carried

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"countersign/gate/internal/evidence"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Types of what signs an image, as registries have them (package registry reads them).
const (
	bundleType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	notationType = "application/vnd.cncf.notary.signature"
)

// Evidence is what is kept of one image: the sets of its own digest, which is the first,
// and of manifests in it.
type Evidence []evidence.Set

// Grouped puts sets together that belong to one image: with an index goes what is kept of
// all that it names. They come in the order of their names.
func Grouped(sets []evidence.Set) []Evidence {
	k := kept{}
	for _, s := range sets {
		k[address{s.Repository, s.Digest}] = s
	}
	named := map[address]bool{} // by an index
	for _, s := range sets {
		for _, below := range k.below(s, map[string]bool{s.Digest: true}) {
			named[address{s.Repository, below.Digest}] = true
		}
	}
	var groups []Evidence
	for _, s := range sets {
		if !named[address{s.Repository, s.Digest}] {
			groups = append(groups, append(Evidence{s}, k.below(s, map[string]bool{s.Digest: true})...))
		}
	}
	slices.SortFunc(groups, func(a, b Evidence) int {
		return cmp.Or(cmp.Compare(a[0].Repository, b[0].Repository), cmp.Compare(a[0].Digest, b[0].Digest))
	})
	return groups
}

type address struct{ repository, digest string }

type kept map[address]evidence.Set

// below gives the sets of all that an index names, also by way of others.
func (k kept) below(s evidence.Set, seen map[string]bool) (found []evidence.Set) {
	for _, digest := range manifestsIn(s.Manifest) {
		if child, ok := k[address{s.Repository, digest}]; ok && !seen[digest] {
			seen[digest] = true
			found = append(append(found, child), k.below(child, seen)...)
		}
	}
	return found
}

// manifestsIn gives the digests that an index names; none of a manifest, or of what is neither.
func manifestsIn(raw []byte) (digests []string) {
	var index ocispec.Index
	if json.Unmarshal(raw, &index) != nil {
		return nil
	}
	for _, d := range index.Manifests {
		digests = append(digests, d.Digest.String())
	}
	return digests
}

// Pack writes an archive that Unpack reads. What is too large for one is left out, and named.
func Pack(archive io.Writer, images []Evidence) (leftOut []string, err error) {
	if n := len(images); n == 0 || n > maxImages {
		return nil, fmt.Errorf("%d images, expected 1 to %d in a file", n, maxImages)
	}
	p := packing{archive: tar.NewWriter(archive), left: maxBytes}
	var listed []Image
	for number, image := range images {
		one := Image{Name: image[0].Repository, Digest: image[0].Digest, Manifests: []string{}, Folder: strconv.Itoa(number)}
		for _, s := range image[1:] {
			one.Manifests = append(one.Manifests, s.Digest)
		}
		listed = append(listed, one)
		files, err := p.layout(image)
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := p.put(path.Join(one.Folder, name), files[name]); err != nil {
				return nil, err
			}
		}
	}
	if err := p.put(contents, encoded(map[string]any{"version": Version, "images": listed})); err != nil {
		return nil, err
	}
	return p.leftOut, p.archive.Close()
}

// packing is an archive on its way.
type packing struct {
	archive *tar.Writer
	left    int64
	files   int
	leftOut []string
}

func (p *packing) put(name string, content []byte) error {
	p.left -= int64(len(content))
	if p.files++; p.left < 0 || p.files > maxFiles {
		return fmt.Errorf("over %d bytes or %d files; name some of the images", int64(maxBytes), maxFiles)
	}
	if err := p.archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := p.archive.Write(content)
	return err
}

// layout gives the files of an image layout with all that signs an image.
func (p *packing) layout(image Evidence) (map[string][]byte, error) {
	l := layoutFiles{files: map[string][]byte{}}
	for number, s := range image {
		if len(s.Manifest) > 0 {
			tag := ""
			if number == 0 {
				tag = "latest"
			}
			l.list(l.blob(typeOf(s.Manifest), s.Manifest), tag)
		}
		l.signatures(s)
		for _, large := range s.Large {
			content, err := readLarge(large)
			if err != nil {
				return nil, fmt.Errorf("%s@%s: %w", s.Repository, s.Digest, err)
			}
			if content == nil {
				p.leftOut = append(p.leftOut, fmt.Sprintf("%s@%s: a bundle of %d bytes", s.Repository, s.Digest, large.Size))
				continue
			}
			l.bundle(s, content)
		}
	}
	l.files["oci-layout"] = []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	l.files["index.json"] = encoded(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: l.listed})
	return l.files, nil
}

// readLarge gives a large bundle, if it is small enough for an archive.
func readLarge(large evidence.Large) ([]byte, error) {
	if large.Size > maxFile {
		return nil, nil
	}
	content, err := os.ReadFile(large.Path)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != large.Sum {
		return nil, fmt.Errorf("%s has other bytes than its name says; remove it", large.Path)
	}
	return content, nil
}

// layoutFiles are the files of a layout, and what its index.json lists.
type layoutFiles struct {
	files  map[string][]byte
	listed []ocispec.Descriptor
}

func (l *layoutFiles) blob(mediaType string, content []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	l.files[path.Join("blobs/sha256", d.Digest.Encoded())] = content
	return d
}

func (l *layoutFiles) list(d ocispec.Descriptor, tag string) {
	if tag != "" {
		d.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	}
	l.listed = append(l.listed, d)
}

// signatures adds what signs one digest, where registries keep it.
func (l *layoutFiles) signatures(s evidence.Set) {
	if len(s.Attachments) > 0 {
		layers := make([]ocispec.Descriptor, 0, len(s.Attachments))
		for _, a := range s.Attachments {
			layer := l.blob(a.MediaType, a.Payload)
			layer.Annotations = a.Annotations
			layers = append(layers, layer)
		}
		manifest := ocispec.Manifest{Config: l.blob(ocispec.MediaTypeImageConfig, []byte("{}")), Layers: layers}
		l.list(l.manifest(manifest), strings.Replace(s.Digest, ":", "-", 1)+".sig")
	}
	for _, b := range s.Bundles {
		l.bundle(s, b.JSON)
	}
	for _, e := range s.Envelopes {
		l.refer(s, notationType, l.blob(e.MediaType, e.Raw))
	}
}

func (l *layoutFiles) bundle(s evidence.Set, content []byte) {
	l.refer(s, bundleType, l.blob(bundleType, content))
}

func (l *layoutFiles) refer(s evidence.Set, artifactType string, layer ocispec.Descriptor) {
	subject := ocispec.Descriptor{MediaType: typeOf(s.Manifest), Digest: digest.Digest(s.Digest), Size: int64(len(s.Manifest))}
	l.list(l.manifest(ocispec.Manifest{
		ArtifactType: artifactType, Config: l.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers: []ocispec.Descriptor{layer}, Subject: &subject,
	}), "")
}

func (l *layoutFiles) manifest(m ocispec.Manifest) ocispec.Descriptor {
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	d := l.blob(m.MediaType, encoded(m))
	d.ArtifactType = m.ArtifactType
	return d
}

// typeOf gives the media type that a manifest or index says it has.
func typeOf(raw []byte) string {
	var document struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(raw, &document) != nil || document.MediaType == "" {
		return ocispec.MediaTypeImageManifest
	}
	return document.MediaType
}

// encoded gives the JSON of what always has one, with "<" and "&" as they are.
func encoded(document any) []byte {
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		panic(err)
	}
	return content.Bytes()
}
