// Command countersign-gate is the node's verifier: a daemon, containerd's image
// verifier, and the same engine on a command line.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/config"
	"countersign/gate/internal/judge"
)

// Exit codes.
const (
	exitOK             = 0
	exitRefused        = 1
	exitUsage          = 2
	exitInfrastructure = 4
)

// verifierName is the link under which containerd finds the image verifier.
const verifierName = "countersign-image-verifier"

// command is one subcommand.
type command struct {
	name     string
	argument string // of the usage line
	about    string
	run      func(c *invocation) int
	options  []options
	free     bool // of those that verify in this process: needs neither --key nor --policy
}

// options are some options of a subcommand: they have the flags set what is theirs.
type options func(in *invocation, flags *flag.FlagSet)

func configPath(in *invocation, flags *flag.FlagSet) {
	flags.StringVar(&in.configPath, "config", defaultConfig(), "path of gate.json")
}

func asJSON(in *invocation, flags *flag.FlagSet) {
	flags.BoolVar(&in.json, "json", false, "print JSON")
}

func ofVerify(in *invocation, flags *flag.FlagSet)   { in.given.flags(flags) }
func ofDoctor(in *invocation, flags *flag.FlagSet)   { in.examined.flags(flags) }
func ofPolicy(in *invocation, flags *flag.FlagSet)   { in.install.flags(flags) }
func ofAudit(in *invocation, flags *flag.FlagSet)    { in.audit.flags(flags) }
func ofBundle(in *invocation, flags *flag.FlagSet)   { in.signed.flags(flags) }
func ofProve(in *invocation, flags *flag.FlagSet)    { in.proof.flags(flags) }
func ofInstall(in *invocation, flags *flag.FlagSet)  { in.onto.flags(flags) }
func onThisNode(in *invocation, flags *flag.FlagSet) { in.onto.planFlags(flags) }
func ofAgent(in *invocation, flags *flag.FlagSet) {
	in.after.flags(flags)
	in.onto.how(flags)
}

func ofProvider(in *invocation, flags *flag.FlagSet) { in.external.flags(flags) }
func ofRetire(in *invocation, flags *flag.FlagSet)   { in.retiring.flags(flags) }

var commands = []command{
	{name: "serve", about: "serve the hook and the image verifier on the gate's socket", run: serve, options: []options{configPath}},
	{name: "observe", about: "judge each container that starts and enforce nothing, on a node without the hook", run: observeNode, options: []options{configPath}},
	{name: "image-verifier", argument: "-name REF -digest DIGEST", about: "be containerd's image verifier (io.containerd.image-verifier.v1.bindir)"},
	{name: "verify", argument: "REF", about: "say whether an image may run here, and show every step", run: verify, options: []options{configPath, asJSON, ofVerify}},
	{name: "inspect", argument: "REF", about: "print every signature and attestation on an image, and what each root of a policy says of it, as JSON", run: inspect, options: []options{ofVerify}, free: true},
	{name: "explain", argument: "REF|CONTAINER", about: "say what binds and allows or refuses an image or a container", run: explain, options: []options{configPath, asJSON}},
	{name: "doctor", about: "find every setting and file that would let an image run unseen on this node", run: examine, options: []options{configPath, asJSON, ofDoctor}},
	{name: "audit", about: "judge what runs on this node already, as its start would be judged now", run: runAudit, options: []options{configPath, asJSON, ofAudit}},
	{name: "verify-bundle", argument: "FILE|sha256:HEX", about: "say whether a Sigstore bundle is a signature of a file", run: verifyBundle, options: []options{ofBundle}},
	{name: "prove", about: "show that this node refuses an image without a signature, and allows one that the policy allows", run: runProve, options: []options{configPath, asJSON, ofProve}},
	{name: "check-policy", argument: "FILE", about: "say whether a rendered policy is valid", run: checkPolicy},
	{name: "install-policy", argument: "FILE|-", about: "check a rendered policy, its signature and its serial, and put it in force on this node", run: installPolicy, options: []options{configPath, asJSON, ofPolicy}},
	{name: "install", about: "bring this node under enforcement: look, plan, apply, prove; what fails is taken back", run: installNode, options: []options{asJSON, ofInstall, onThisNode}},
	{name: "uninstall", about: "take enforcement off this node again; it is as it was before install", run: uninstallNode, options: []options{asJSON, onThisNode}},
	{name: "node-files", about: "print what the files of the node contain that stdin describes, as JSON; for set-up over a connection", run: nodeFiles},
	{name: "agent", about: "keep a Kubernetes cluster informed of this node's enforcement, from a pod", run: lookAfter, options: []options{ofAgent}},
	{name: "ready", argument: "FILE", about: "be a readiness probe: exit 0 while the file is there that an agent keeps (--ready-file)", run: ready},
	{name: "retire", about: "have every node of a Kubernetes cluster take enforcement off, from a pod", run: retire, options: []options{ofRetire}},
	{name: "provider", about: "answer Gatekeeper, as its external data provider, whether a pod's images may run", run: provide, options: []options{ofProvider}},
	{name: "evidence import", argument: "FILE|-", about: "keep carried evidence on this node, offline, if the node's policy allows the images by it", run: importEvidence, options: []options{configPath, asJSON}},
	{name: "evidence export", argument: "FILE|-", about: "write the evidence that this node keeps to a file, for other nodes to import", run: exportEvidence, options: []options{configPath, asJSON, ofExport}},
	{name: "evidence list", about: "list the evidence that this node keeps", run: listEvidence, options: []options{configPath, asJSON}},
	{name: "nri-version", argument: "PROGRAM", about: "print the version of NRI that a runtime's program was built with", run: printNRIVersion},
	{name: "version", about: "print the version", run: printVersion},
}

// invocation is a subcommand with its arguments read.
type invocation struct {
	command
	arguments  []string
	configPath string
	json       bool
	given      inProcess
	examined   examined
	install    installing
	audit      auditing
	signed     signed
	proof      proving
	onto       ofNode
	after      looksAfter
	retiring   retiring
	external   external
	images     files
	stdout     io.Writer
	stderr     io.Writer
}

func main() {
	if filepath.Base(os.Args[0]) == verifierName {
		os.Exit(imageVerifier(os.Args[1:], os.Stdin, os.Stdout))
	}
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs a subcommand and returns the exit code.
func dispatch(args []string, stdout, stderr io.Writer) int {
	stdout, stderr = clean.Writer{To: stdout}, clean.Writer{To: stderr}
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return exitOK
	case "image-verifier":
		return imageVerifier(args, os.Stdin, stdout)
	case judge.ChildCommand:
		return judgeLarge(stdout, stderr)
	case "--version", "-version":
		name = "version"
	case "evidence":
		if len(args) > 0 {
			name, args = name+" "+args[0], args[1:]
		}
	}
	for _, c := range commands {
		if c.name == name {
			return c.invoke(args, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "error: unknown command %q; see countersign-gate --help\n", name)
	return exitUsage
}

func (c command) invoke(args []string, stdout, stderr io.Writer) int {
	in := &invocation{command: c, stdout: stdout, stderr: stderr, given: inProcess{free: c.free}}
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, some := range c.options {
		some(in, flags)
	}
	arguments, err := interspersed(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(stdout, flags)
		return exitOK
	}
	want := 0
	if c.argument != "" {
		want = 1
	}
	if err == nil && len(arguments) != want {
		err = fmt.Errorf("expected %d arguments, got %d", want, len(arguments))
	}
	if err == nil {
		err = in.given.check()
	}
	if err != nil {
		fmt.Fprintf(stderr, "error: %s: %v; usage: %s\n", c.name, err, c.line())
		return exitUsage
	}
	in.arguments = arguments
	return c.run(in)
}

// interspersed parses flags before, between and after arguments.
func interspersed(flags *flag.FlagSet, args []string) (arguments []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return arguments, nil
		}
		arguments, args = append(arguments, flags.Arg(0)), flags.Args()[1:]
	}
}

func defaultConfig() string {
	if path := os.Getenv(config.Env); path != "" {
		return path
	}
	return config.DefaultPath
}

func (c command) line() string {
	return strings.Join(strings.Fields("countersign-gate "+c.name+" [OPTIONS] "+c.argument), " ")
}

func (c command) help(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\n%s.\n", c.line(), c.about)
	flags.SetOutput(w)
	flags.PrintDefaults()
}

func usage(w io.Writer) {
	fmt.Fprint(w, "countersign-gate COMMAND: decide what images may run on this node.\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-40s %s\n", strings.TrimSpace(c.name+" "+c.argument), c.about)
	}
	fmt.Fprintf(w, "\nConfiguration: --config FILE, else $%s, else %s.\n", config.Env, config.DefaultPath)
	fmt.Fprint(w, "Exit codes: 0 ok or allowed, 1 refused or not enforcing, 2 usage, 4 infrastructure.\n")
}

// fail prints one line and returns the code of a failing infrastructure.
func (c *invocation) fail(err error) int {
	fmt.Fprintf(c.stderr, "error: %s: %v\n", c.name, err)
	return exitInfrastructure
}
