package doctor

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"
)

//go:embed containerd-versions.toml
var versionData []byte

// version is major, minor and patch.
type version [3]int

var (
	pattern = regexp.MustCompile(`\bv?(\d+)\.(\d+)\.(\d+)(-(?:alpha|beta|rc)\S*)?`)
	// nriSince is the first containerd whose NRI can require a plugin.
	nriSince = version{2, 2, 0}
	// criuSwitch is the first containerd with a setting for checkpoints.
	criuSwitch = version{2, 4, 0}
	known      = sync.OnceValue(readVersions)
)

// versionsKnown says which versions nothing can be enforced on, and which have holes.
type versionsKnown struct {
	Oldest string `toml:"oldest"`
	Holes  []struct {
		IDs   []string `toml:"ids"`
		Fixed []string `toml:"fixed"`
	} `toml:"holes"`
}

func readVersions() versionsKnown {
	var found versionsKnown
	if err := toml.Unmarshal(versionData, &found); err != nil {
		panic(err) // it is a part of this program
	}
	return found
}

// parseVersion reads the version in a text. A release candidate counts as the
// release before: it need not have its fixes.
func parseVersion(text string) (version, bool) {
	found := pattern.FindStringSubmatch(text)
	if found == nil {
		return version{}, false
	}
	var v version
	for i := range v {
		v[i], _ = strconv.Atoi(found[i+1]) // digits; a number beyond an int is the largest
	}
	if found[4] != "" {
		v[2]--
	}
	return v, true
}

func (v version) before(other version) bool { return slices.Compare(v[:], other[:]) < 0 }

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// holes names the known holes of a version of containerd, each with the version that
// fixes it.
func holes(v version) []string {
	var found []string
	for _, each := range known().Holes {
		fixes := make([]version, 0, len(each.Fixed))
		for _, text := range each.Fixed {
			fix, _ := parseVersion(text) // a test reads each
			fixes = append(fixes, fix)
		}
		slices.SortFunc(fixes, func(a, b version) int { return slices.Compare(a[:], b[:]) })
		fixed := fixes[0]
		for _, fix := range fixes {
			if fix[0] == v[0] && fix[1] == v[1] {
				fixed = fix
			}
		}
		if v.before(fixed) {
			found = append(found, fmt.Sprintf("%s (fixed in %s)", strings.Join(each.IDs, ", "), fixed))
		}
	}
	return found
}
