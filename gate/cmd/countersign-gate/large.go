package main

import (
	"fmt"
	"io"
	"os"

	"countersign/gate/internal/judge"
)

// bundleFD is where the gate hands its child the bundle.
const bundleFD = 3

// judgeLarge is what the gate runs its own program for: nobody else has a use for it.
func judgeLarge(stdout, stderr io.Writer) int {
	if err := judge.Child(os.Stdin, os.NewFile(bundleFD, "bundle"), stdout); err != nil {
		fmt.Fprintf(stderr, "error: %v\n", err)
		return exitInfrastructure
	}
	return exitOK
}
