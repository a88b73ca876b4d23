package nri

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
)

const module = "github.com/containerd/nri"

// VersionIn gives the version of NRI that a runtime's program was built with, such as
// "v0.12.3". NRI itself tells only the runtime's version, and a failure policy, for
// one, is honoured from 0.12.4 only.
func VersionIn(program string) (string, error) {
	there, err := os.Stat(program)
	if err == nil && !there.Mode().IsRegular() {
		err = errors.New("not a file") // a pipe would be waited for
	}
	var info *buildinfo.BuildInfo
	if err == nil {
		info, err = buildinfo.ReadFile(program)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", program, err)
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version, nil
		}
	}
	return "", fmt.Errorf("%s is built without %s", program, module)
}
