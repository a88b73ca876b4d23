package provider

import (
	"cmp"
	"net/url"
	"path"
	"slices"
	"strings"
)

// dockerHub are the names of Docker Hub, whose images the kubelet also gives the
// login of its old name.
const (
	dockerHub    = "docker.io"
	oldDockerHub = "index.docker.io"
)

func matchesAny(patterns []string, image string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, image) })
}

// matches says whether a pattern of matchImages covers an image, which is host/path,
// as the kubelet reads it: as many labels in the host, each matched on its own (with
// wildcards), the same port, and a path that the image's begins with. A pattern that
// cannot be read matches nothing.
func matches(pattern, image string) bool {
	globHost, globPort, globPath, ok := parts(pattern)
	host, port, imagePath, imageOK := parts(image)
	if !ok || !imageOK || globPort != port || !strings.HasPrefix(imagePath, globPath) {
		return false
	}
	globs, labels := strings.Split(globHost, "."), strings.Split(host, ".")
	if len(globs) != len(labels) {
		return false
	}
	for i, glob := range globs {
		if matched, err := path.Match(glob, labels[i]); err != nil || !matched {
			return false
		}
	}
	return true
}

// parts takes host[:port][/path] apart.
func parts(schemeless string) (host, port, urlPath string, ok bool) {
	parsed, err := url.Parse("https://" + schemeless)
	if err != nil {
		return "", "", "", false
	}
	return parsed.Hostname(), parsed.Port(), parsed.Path, true
}

// leadsTo says whether the login under a key of an answer is for that image.
func leadsTo(key, image string) bool {
	return matches(key, image) || key == oldDockerHub && strings.HasPrefix(image, dockerHub+"/")
}

// plainKey gives a key of an answer without a scheme, and without the API's version
// that old Docker configurations have there.
func plainKey(key string) string {
	bare := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, rest, _ := strings.Cut(bare, "/")
	if version, below, found := strings.Cut(rest, "/"); found && (version == "v1" || version == "v2") {
		rest = below
	}
	if rest == "" {
		return host
	}
	return host + "/" + rest
}

// compareKeys puts those keys first that count first: with the same beginning the
// longer, and a name before a wildcard, which is what the kubelet's reverse order is
// for. The old name of Docker Hub counts where nothing else does.
func compareKeys(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == oldDockerHub:
		return 1
	case b == oldDockerHub:
		return -1
	}
	return cmp.Compare(b, a)
}
