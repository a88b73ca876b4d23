package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/doctor"
)

// examined says what "doctor" goes by beside gate.json.
type examined struct {
	list       bool
	record     string
	setup      string
	crioSocket string
}

func (e *examined) flags(flags *flag.FlagSet) {
	flags.BoolVar(&e.list, "list", false, "only name what would be looked at; needs no root")
	flags.StringVar(&e.record, "record", "", "`FILE` of what set-up put on this node (countersign.record/v1), to compare with; - for stdin")
	flags.StringVar(&e.setup, "setup", "", "`COMMAND` that sets this node up, named where it fixes what was found")
	flags.StringVar(&e.crioSocket, "crio-socket", "", "CRI-O's `SOCKET` (default crio.socket of gate.json)")
}

// examine looks at this node. One thing that is open makes the exit code 1; where
// nothing is, but something could not be looked at, it is 4.
func examine(c *invocation) int {
	options := doctor.Options{Config: c.configPath, CrioSocket: c.examined.crioSocket, Setup: c.examined.setup}
	switch path := c.examined.record; path {
	case "":
	case "-":
		options.Record = os.Stdin
	default:
		file, err := bounded.Open(path)
		if err != nil {
			return c.misused(err)
		}
		defer func() { _ = file.Close() }()
		options.Record = file
	}
	look := doctor.Look
	if c.examined.list {
		look = doctor.List
	}
	report := look(options)
	var err error
	if c.json {
		err = c.document(report)
	} else {
		err = writeReport(c.stdout, report)
	}
	if err != nil {
		return c.fail(err)
	}
	return worst(report)
}

func worst(report *doctor.Report) int {
	switch {
	case report.Count(doctor.Open) > 0:
		return exitRefused
	case report.Count(doctor.Unknown) > 0:
		return exitInfrastructure
	}
	return exitOK
}

var marks = map[doctor.State]string{
	doctor.OK: "✓", doctor.Open: "✗", doctor.Warning: "!", doctor.Unknown: "?", doctor.Skipped: "-", doctor.Listed: "·",
}

// writeReport prints each check, what was found and what fixes it, and the outcome.
func writeReport(w io.Writer, report *doctor.Report) error {
	var b strings.Builder
	width := 0
	for _, check := range report.Checks {
		width = max(width, len(check.Name))
	}
	for _, check := range report.Checks {
		told := check.LooksAt
		if check.State == doctor.Listed {
			told += ": " + check.Wanted
		} else if check.Note != "" {
			told += " (" + check.Note + ")"
		}
		fmt.Fprintf(&b, "%s %-*s %s\n", marks[check.State], width, check.Name, told)
		for _, found := range check.Findings {
			fmt.Fprintf(&b, "    %s\n    fix: %s\n", found, found.Mend)
		}
	}
	if runtime := report.Runtime; runtime.Version != "" {
		fmt.Fprintf(&b, "%s %s, NRI %s\n", runtime.Name, runtime.Version, orUnknown(runtime.NRI))
	}
	fmt.Fprintf(&b, "%s\n", outcome(report))
	_, err := io.WriteString(w, b.String())
	return err
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

func outcome(report *doctor.Report) string {
	open, unknown := report.Count(doctor.Open), report.Count(doctor.Unknown)
	switch {
	case report.Count(doctor.Listed) > 0:
		return fmt.Sprintf("countersign: %d checks; nothing was looked at", len(report.Checks))
	case open > 0:
		return fmt.Sprintf("countersign: %s: images could run unseen: checks that are open: %d", report.Node, open)
	case unknown > 0:
		return fmt.Sprintf("countersign: %s: not known: checks that could not be made: %d", report.Node, unknown)
	}
	return fmt.Sprintf("countersign: %s: nothing was found by which an image could run unseen", report.Node)
}
