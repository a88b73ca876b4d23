package main

import (
	"bytes"
	"fmt"
	"os"
	"unicode/utf16"

	"countersign/gate/internal/install"
)

// maxPlace bounds what "node-files" reads: it has the base specs.
const maxPlace = 8 << 20

// nodeFiles prints what a node's files contain.
func nodeFiles(c *invocation) int {
	place, err := readAll(os.Stdin, maxPlace)
	if err != nil {
		return c.fail(err)
	}
	found, err := install.Files(place)
	if err != nil {
		return c.misused(err)
	}
	if err := c.printJSON(found); err != nil {
		return c.fail(err)
	}
	return exitOK
}

// printJSON prints a document that holds files as they are.
func (c *invocation) printJSON(document any) error {
	var out bytes.Buffer
	if err := writeJSON(&out, document); err != nil {
		return err
	}
	_, err := c.stdout.Write(ascii(out.String()))
	return err
}

// ascii gives a JSON document in ASCII alone, in which nothing has to be cleaned.
func ascii(document string) []byte {
	var out []byte
	for _, r := range document {
		if r < 0x7f {
			out = append(out, byte(r))
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}
