package doctor

import (
	"strings"
	"testing"
)

func TestVersionsAreReadAsTheRuntimeWritesThem(t *testing.T) {
	for text, want := range map[string]version{
		"v2.4.2": {2, 4, 2}, "2.1.4-0ubuntu1": {2, 1, 4}, "containerd github.com/containerd/containerd/v2 v2.0.0 abc": {2, 0, 0},
		"v2.3.2-rc.1": {2, 3, 1}, "1.7.24~ds1": {1, 7, 24},
	} {
		if found, ok := parseVersion(text); !ok || found != want {
			t.Errorf("%q: got %v, %v", text, found, ok)
		}
	}
	if found, ok := parseVersion("unknown"); ok {
		t.Errorf("got %v", found)
	}
}

func TestTheDataAreVersions(t *testing.T) {
	if _, ok := parseVersion(known().Oldest); !ok || len(known().Holes) == 0 {
		t.Errorf("got %+v", known())
	}
	for _, hole := range known().Holes {
		if len(hole.IDs) == 0 || len(hole.Fixed) == 0 {
			t.Errorf("got %+v", hole)
		}
		for _, text := range hole.Fixed {
			if _, ok := parseVersion(text); !ok {
				t.Errorf("%q is not a version", text)
			}
		}
	}
}

func TestKnownHolesAreNamedWithTheVersionThatFixesThem(t *testing.T) {
	for text, fixed := range map[string]string{
		"2.0.9": "2.1.9", "2.1.8": "2.1.9", "2.1.9": "", "2.2.4": "2.2.5", "2.2.5": "", "2.3.2": "", "2.3.2-rc.1": "2.3.2", "2.4.0": "",
	} {
		v, _ := parseVersion(text)
		found := strings.Join(holes(v), "; ")
		if fixed == "" && found != "" || !strings.Contains(found, fixed) {
			t.Errorf("%s: got %q, expected %q", text, found, fixed)
		}
	}
}
