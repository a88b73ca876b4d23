package main

import (
	"fmt"
	"runtime/debug"

	"countersign/gate/internal/nri"
)

// release is set by the linker for releases: -X main.release=1.2.3.
var release string

func version() string {
	if release != "" {
		return release
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range build.Settings {
		if setting.Key == "vcs.revision" {
			return "devel " + setting.Value
		}
	}
	return "devel"
}

func printVersion(c *invocation) int {
	var err error
	if c.json {
		err = c.document(map[string]string{"version": "countersign.gate-version/v1", "gate": version()})
	} else {
		_, err = fmt.Fprintf(c.stdout, "countersign-gate %s\n", version())
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}

func printNRIVersion(c *invocation) int {
	found, err := nri.VersionIn(c.arguments[0])
	if err != nil {
		return c.fail(err)
	}
	fmt.Fprintln(c.stdout, found)
	return exitOK
}
