// Package reference turns the image name that a user wrote into the name by
// which policy and evidence know the image, exactly as containerd's CRI plugin
// reads it.
package reference

import (
	"fmt"
	"strings"

	"countersign/gate/internal/code"

	"github.com/distribution/reference"
)

// Name is a normalised image name. A name in ID form has no repository, and so
// no scope: only a pin can allow what it leads to.
type Name struct {
	Repository string // registry/path, as in docker.io/library/nginx
	Tag        string // "" beside a digest; "latest" where nothing was written
	Digest     string // sha256:<hex>, or ""
	IDForm     bool   // an image ID, a digest, or what CRI may resolve as the prefix of one
}

// Normalise reads name as containerd's CRI plugin does: ParseDockerRef of
// github.com/distribution/reference, where a tag beside a digest is dropped.
// Names that CRI's LocalResolve may take for an image ID are recognised first.
// It returns a *code.Refusal with BAD_REFERENCE.
func Normalise(name string) (Name, error) {
	if isID(name) {
		return Name{IDForm: true}, nil
	}
	return Parse(name)
}

// Parse reads name as Normalise does where it is not written for CRI, and so never an image
// ID: what a signature says that it is of. "cafe" is docker.io/library/cafe there.
func Parse(name string) (Name, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return Name{}, bad(name, err)
	}
	n := Name{Repository: named.Name()}
	if tagged, ok := named.(reference.Tagged); ok {
		n.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		n.Digest = digested.Digest().String()
		if err := CheckDigest(n.Digest); err != nil {
			return Name{}, bad(name, err)
		}
	}
	return n, nil
}

// String gives the full name: repository@digest, or repository:tag.
func (n Name) String() string {
	switch {
	case n.Digest != "":
		return n.Repository + "@" + n.Digest
	case n.Tag != "":
		return n.Repository + ":" + n.Tag
	}
	return n.Repository
}

// CheckRepository says why repository is not a full, normalised repository
// name (registry/path), or returns nil.
func CheckRepository(repository string) error {
	named, err := reference.ParseNamed(repository)
	if err != nil {
		return err
	}
	if !reference.IsNameOnly(named) {
		return fmt.Errorf("%q has a tag or digest", repository)
	}
	return nil
}

// CheckScope says why scope is not a normalised registry, namespace or
// repository, or returns nil. Anything below a good scope is a good repository.
func CheckScope(scope string) error {
	named, err := reference.ParseNamed(scope + "/x/y")
	if err != nil {
		return err
	}
	if named.Name() != scope+"/x/y" {
		return fmt.Errorf("%q is not in its normalised form", scope)
	}
	return nil
}

// Split parts a normalised repository into its registry and the path in it.
func Split(repository string) (registry, path string) {
	registry, path, _ = strings.Cut(repository, "/")
	return registry, path
}

// CheckDigest says why digest is not "sha256:" and 64 lower-case hex digits, or
// returns nil. OCI registers other algorithms; no signature format here and no
// runtime uses one for images.
func CheckDigest(digest string) error {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(hex) != 64 || !isHex(hex) {
		return fmt.Errorf("%q is not sha256:<64 hex digits>", digest)
	}
	return nil
}

// isID reports whether CRI may resolve name as an image ID: a digest of any
// length, or hex digits alone. A short name like "cafe" falls under it too;
// its full name docker.io/library/cafe does not.
func isID(name string) bool {
	for _, algorithm := range []string{"sha256:", "sha384:", "sha512:"} {
		if rest, ok := strings.CutPrefix(name, algorithm); ok {
			return rest != "" && !strings.ContainsAny(rest, "/@:")
		}
	}
	return name != "" && len(name) <= 64 && isHex(name)
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func bad(name string, err error) *code.Refusal {
	if len(name) > 300 {
		name = name[:300] + "…"
	}
	return code.Refuse(code.BadReference, fmt.Sprintf("%q is not an image name: %v", name, err),
		"[registry/]path[:tag][@sha256:<hex>]", "correct the name")
}
