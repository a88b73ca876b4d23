// Command countersign-gate is the node's verifier: a daemon, containerd's image
// verifier, and the same engine on a command line.
package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"

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
	example  string // what follows the name
	run      func(c *invocation) int
	options  []options
	free     bool // of those that verify in this process: needs neither --key nor --policy
}

// options are some options of a subcommand: they have the flags set what is theirs.
type options func(in *invocation, flags *flag.FlagSet)

func configPath(in *invocation, flags *flag.FlagSet) {
	flags.StringVar(&in.configPath, "config", defaultConfig(), "`FILE`: this node's gate.json")
}

func asJSON(in *invocation, flags *flag.FlagSet) {
	flags.BoolVar(&in.json, "json", false, "print one JSON document on stdout, also of an error")
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

func ofCrioPolicy(in *invocation, flags *flag.FlagSet) { in.own.flags(flags) }

func ofProvider(in *invocation, flags *flag.FlagSet) { in.external.flags(flags) }
func ofRetire(in *invocation, flags *flag.FlagSet)   { in.retiring.flags(flags) }

var commands = []command{
	{name: "serve", about: "serve the hook and the image verifier on the gate's socket", example: "--config /etc/countersign/gate.json", run: serve, options: []options{configPath}},
	{name: "observe", about: "judge each container that starts and enforce nothing, on a node without the hook", example: "--config observe.json", run: observeNode, options: []options{configPath}},
	{name: "image-verifier", argument: "-name REF -digest DIGEST", about: "be containerd's image verifier (io.containerd.image-verifier.v1.bindir)"},
	{name: "verify", argument: "REF", about: "say whether an image may run here, and show every step", example: "registry.example/app:v1", run: verify, options: []options{configPath, asJSON, ofVerify}},
	{name: "inspect", argument: "REF", about: "print every signature and attestation on an image, and what each root of a policy says of it, as JSON", example: "--policy policy.json registry.example/app:v1", run: inspect, options: []options{asJSON, ofVerify}, free: true},
	{name: "explain", argument: "REF|CONTAINER", about: "say what binds and allows or refuses an image or a container", example: "3f4e0c1b2a", run: explain, options: []options{configPath, asJSON}},
	{name: "doctor", about: "find every setting and file that would let an image run unseen on this node", example: "--json", run: examine, options: []options{configPath, asJSON, ofDoctor}},
	{name: "audit", about: "judge what runs on this node already, as its start would be judged now", example: "--images", run: runAudit, options: []options{configPath, asJSON, ofAudit}},
	{name: "verify-bundle", argument: "FILE|sha256:HEX", about: "say whether a Sigstore bundle is a signature of a file", example: "--bundle app.tar.sigstore.json --key cosign.pub app.tar", run: verifyBundle, options: []options{asJSON, ofBundle}},
	{name: "prove", about: "show that this node refuses an image without a signature, and allows one that the policy allows", example: "--image registry.example/app:v1", run: runProve, options: []options{configPath, asJSON, ofProve}},
	{name: "check-policy", argument: "FILE|-", about: "say whether a rendered policy is valid", example: "policy.json", run: checkPolicy, options: []options{asJSON}},
	{name: "install-policy", argument: "FILE|-", about: "check a rendered policy, its signature and its serial, and put it in force on this node", example: "--plan policy.json", run: installPolicy, options: []options{configPath, asJSON, ofPolicy}},
	{name: "install", about: "bring this node under enforcement: look, plan, apply, prove; what fails is taken back", example: "--policy policy.json --plan", run: installNode, options: []options{asJSON, ofInstall, onThisNode}},
	{name: "uninstall", about: "take enforcement off this node again; it is as it was before install", example: "--plan", run: uninstallNode, options: []options{asJSON, onThisNode}},
	{name: "node-files", about: "print what the files of the node contain that stdin describes, as JSON; for set-up over a connection", run: nodeFiles},
	{name: "crio-policy", argument: "FILE|-", about: "print a rendered policy in the form of CRI-O's own engine, as JSON", example: "policy.json", run: crioPolicy, options: []options{ofCrioPolicy}},
	{name: "agent", about: "keep a Kubernetes cluster informed of this node's enforcement, from a pod", example: "--policy-configmap countersign-policy --every 30s", run: lookAfter, options: []options{ofAgent}},
	{name: "ready", argument: "FILE", about: "be a readiness probe: exit 0 while the file is there that an agent keeps (--ready-file)", example: "/run/countersign-agent/ready", run: ready},
	{name: "retire", about: "have every node of a Kubernetes cluster take enforcement off, from a pod", example: "--within 1m", run: retire, options: []options{ofRetire}},
	{name: "provider", about: "answer Gatekeeper, as its external data provider, whether a pod's images may run", example: "--policy policy.json --tls-cert tls.crt --tls-key tls.key --client-ca ca.crt", run: provide, options: []options{ofProvider}},
	{name: "evidence import", argument: "FILE|-", about: "keep carried evidence on this node, offline, if the node's policy allows the images by it", example: "evidence.tar", run: importEvidence, options: []options{configPath, asJSON}},
	{name: "evidence export", argument: "FILE|-", about: "write the evidence that this node keeps to a file, for other nodes to import", example: "--image registry.example/app evidence.tar", run: exportEvidence, options: []options{configPath, asJSON, ofExport}},
	{name: "evidence list", about: "list the evidence that this node keeps", example: "--json", run: listEvidence, options: []options{configPath, asJSON}},
	{name: "nri-version", argument: "PROGRAM", about: "print the version of NRI that a runtime's program was built with", example: "/usr/bin/containerd", run: printNRIVersion},
	{name: "version", about: "print the version", example: "--json", run: printVersion, options: []options{asJSON}},
}

// invocation is a subcommand with its arguments read.
type invocation struct {
	command
	arguments  []string
	configPath string
	json       bool
	printed    bool // a document is on stdout
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
	own        ownEngine
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
		usage(stderr, "")
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "help":
		args = append(args, "--help")
		name, args = args[0], args[1:]
	case "image-verifier":
		if !slices.Equal(args, []string{"--help"}) {
			return imageVerifier(args, os.Stdin, stdout)
		}
	case judge.ChildCommand:
		return judgeLarge(stdout, stderr)
	case "--version", "-version":
		name = "version"
	}
	if name == "evidence" && len(args) > 0 && !slices.Contains(helps, args[0]) {
		name, args = name+" "+args[0], args[1:]
	}
	in := &invocation{command: command{name: name}, stdout: stdout, stderr: stderr, json: slices.Contains(args, "--json")}
	for _, c := range commands {
		if c.name == name {
			in.command = c
			return in.invoke(args)
		}
	}
	switch {
	case slices.Contains(helps, name):
		usage(stdout, "")
		return exitOK
	case name == "evidence" && len(args) > 0:
		usage(stdout, "evidence ")
		return exitOK
	case name == "evidence":
		usage(stderr, "evidence ")
		return exitUsage
	}
	in.name = "countersign-gate"
	return in.misused(unknown(name))
}

// helps are the ways to ask for help.
var helps = []string{"--help", "-help", "-h"}

// invoke reads the arguments and runs the command.
func (c *invocation) invoke(args []string) int {
	c.given.free = c.free
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, some := range c.options {
		some(c, flags)
	}
	c.json = flags.Lookup("json") != nil && slices.Contains(args, "--json") // for what is said of the arguments
	arguments, err := interspersed(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(c.stdout, flags)
		return exitOK
	}
	if err != nil {
		return c.misspelt(explained(err, flags))
	}
	if err := c.counted(arguments); err != nil {
		return c.misspelt(err)
	}
	if err := c.given.check(); err != nil {
		return c.misspelt(err)
	}
	c.arguments = arguments
	return c.run(c)
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
