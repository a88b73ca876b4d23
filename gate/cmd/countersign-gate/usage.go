package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
)

const errorVersion = "countersign.error/v1"

// failure is what --json prints instead of what was asked for, as ./inv does.
type failure struct {
	Version  string `json:"version"`
	ExitCode int    `json:"exitCode"`
	Message  string `json:"message"`
	Found    string `json:"found"`
	Where    string `json:"where"`
	Expected string `json:"expected"`
	Do       string `json:"do"`
}

// end prints one line on stderr, with --json a document on stdout too, and returns the exit code.
func (c *invocation) end(exit int, err error) int {
	fmt.Fprintf(c.stderr, "error: %s: %s\n", c.name, strings.ReplaceAll(err.Error(), "\n", "; "))
	return c.told(exit, err)
}

// told is end without the line: it was said already.
func (c *invocation) told(exit int, err error) int {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if !c.json || c.printed {
		return exit
	}
	found := failure{Version: errorVersion, ExitCode: exit, Message: text, Found: text, Where: c.name}
	if refusal := (*code.Refusal)(nil); errors.As(err, &refusal) {
		found.Found, found.Expected, found.Do = string(refusal.Code)+": "+refusal.Found, refusal.Expected, refusal.Do
	}
	if err := c.document(found); err != nil {
		return exitInfrastructure
	}
	return exit
}

// document prints the one document of this run.
func (c *invocation) document(v any) error {
	c.printed = true
	return writeJSON(c.stdout, v)
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (c *invocation) fail(err error) int { return c.end(exitInfrastructure, err) }

func (c *invocation) misused(err error) int { return c.end(exitUsage, err) }

// misspelt is misused, with the line that shows what can be given.
func (c *invocation) misspelt(err error) int {
	return c.misused(fmt.Errorf("%w; usage: %s", err, c.line()))
}

// settings reads gate.json.
func (c *invocation) settings() (*config.Config, error) {
	settings, err := config.Load(c.configPath)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; set this node up (countersign-gate install), or name its gate.json with --config", err)
	}
	return settings, err
}

// unknown says that there is no such command, and which one may be meant.
func unknown(name string) error {
	names := make([]string, 0, len(commands))
	for _, c := range commands {
		names = append(names, c.name)
	}
	do := "see countersign-gate --help"
	if near := nearest(name, names); near != "" {
		do = fmt.Sprintf("did you mean %s?", near)
	}
	return fmt.Errorf("unknown command %q; %s", name, do)
}

// explained says what package flag means, in the words of this program's help.
func explained(err error, flags *flag.FlagSet) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var names []string
		flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		near := nearest(strings.TrimLeft(name, "-"), names)
		if near != "" {
			near = "; did you mean --" + near + "?"
		}
		return fmt.Errorf("unknown option --%s%s", strings.TrimLeft(name, "-"), near)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("--%s: expected a value", name)
	}
	return errors.New(strings.NewReplacer(" for flag -", " for --", " for -", " for --").Replace(text))
}

// counted says whether a command has the arguments that it takes.
func (c command) counted(arguments []string) error {
	switch {
	case c.argument == "" && len(arguments) > 0:
		return fmt.Errorf("expected no argument, got %q", arguments[0])
	case c.argument != "" && len(arguments) == 0:
		return fmt.Errorf("expected %s, got no argument", c.argument)
	case len(arguments) > 1:
		return fmt.Errorf("expected one %s, got %d: %q", c.argument, len(arguments), arguments)
	}
	return nil
}

// maxTypos is how far a name may be from one that is meant.
const maxTypos = 2

// nearest gives the one of some names that may be meant, or "".
func nearest(given string, names []string) string {
	best, distance := "", maxTypos+1
	for _, name := range names {
		if d := typos(given, name); d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	if at := slices.IndexFunc(names, func(name string) bool { return given != "" && strings.HasPrefix(name, given) }); best == "" && at >= 0 {
		return names[at]
	}
	return best
}

// typos counts the characters to insert, remove or replace (Levenshtein); what is much
// longer than any name is far from all.
func typos(a, b string) int {
	if len(a) > len(b)+maxTypos {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func (c command) line() string {
	return strings.Join(strings.Fields("countersign-gate "+c.name+" [OPTIONS] "+c.argument), " ")
}

// help prints a command's options as they are best written.
func (c command) help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\n%s%s.\n", c.line(), strings.ToUpper(c.about[:1]), c.about[1:])
	if c.example != "" {
		fmt.Fprintf(w, "\nExample: countersign-gate %s %s\n", c.name, c.example)
	}
	title := "\nOptions:\n"
	flags.VisitAll(func(f *flag.Flag) {
		value, about := flag.UnquoteUsage(f)
		if _, several := f.Value.(*files); !several && !slices.Contains([]string{"", "false", "0s"}, f.DefValue) {
			about += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		fmt.Fprintf(w, "%s  %s\n      %s\n", title, strings.TrimSpace("--"+f.Name+" "+value), about)
		title = ""
	})
}

// usage prints the commands whose name begins so.
func usage(w io.Writer, group string) {
	fmt.Fprintf(w, "countersign-gate %sCOMMAND: decide what images may run on this node.\n\n", group)
	for _, c := range commands {
		if strings.HasPrefix(c.name, group) {
			fmt.Fprintf(w, "  %-40s %s\n", strings.TrimSpace(c.name+" "+c.argument), c.about)
		}
	}
	fmt.Fprint(w, "\ncountersign-gate COMMAND --help shows a command's options and an example.\n")
	fmt.Fprintf(w, "Configuration: --config FILE, else $%s, else %s.\n", config.Env, config.DefaultPath)
	fmt.Fprint(w, "Exit codes: 0 ok or allowed, 1 refused or not enforcing, 2 usage, 4 infrastructure.\n")
}
