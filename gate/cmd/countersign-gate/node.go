package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/install"
	"countersign/gate/internal/policy"
)

// ofNode is what "install" and "uninstall" are told.
type ofNode struct {
	host           string // the node's root, for one in a container
	programs       string // the folder of this program and the hook
	plan           bool
	policy         string
	policyKeys     files
	dockerConfig   string
	providers      config.CredentialProviders
	socket         string // containerd's
	runtime        string
	crioSocket     string
	crioEngine     string
	image          string
	acceptRefusals bool
}

// maxLogins bounds a Docker config.json.
const maxLogins = 1 << 20

func (o *ofNode) flags(flags *flag.FlagSet) {
	flags.StringVar(&o.policy, "policy", "", "the rendered policy `FILE` (./inv policy.render); its signatures lie in FILE.sig, if it has any")
	o.how(flags)
}

// how has the flags set all but the policy.
func (o *ofNode) how(flags *flag.FlagSet) {
	flags.Var(&o.policyKeys, "policy-key", "public key `FILE`, PEM: from now on only a policy that it signed is taken; may be given more than once")
	flags.StringVar(&o.dockerConfig, "docker-config", "", "Docker config.json `FILE` with the logins that this node may have")
	flags.StringVar(&o.providers.Config, "credential-provider-config", "", "the kubelet's credential providers: their `FILE`")
	flags.StringVar(&o.providers.BinDir, "credential-provider-bin-dir", "", "the kubelet's credential providers: their `DIR`")
	flags.StringVar(&o.socket, "containerd-socket", "/run/containerd/containerd.sock", "containerd's `SOCKET`")
	flags.StringVar(&o.runtime, "runtime", "", "the node's `RUNTIME`, containerd or crio (default: the one that answers at its socket)")
	flags.StringVar(&o.crioSocket, "crio-socket", config.CrioSocket, "CRI-O's `SOCKET`")
	crioEngine(&o.crioEngine, flags)
	flags.StringVar(&o.image, "image", "", "`IMAGE` that the proof has to find allowed; without it, one that is there is tried")
	flags.BoolVar(&o.acceptRefusals, "accept-refusals", false, "go on though containers run here that could not start again under this policy")
}

func (o *ofNode) planFlags(flags *flag.FlagSet) {
	flags.BoolVar(&o.plan, "plan", false, "only say what would change")
	flags.StringVar(&o.host, "host", "", "the node's root `DIR`, from a container that shares its process IDs and network")
}

func (o *ofNode) check() error {
	switch {
	case o.policy == "":
		return errors.New("--policy is missing; ./inv policy.render makes one of policy.yaml")
	case (o.providers.Config == "") != (o.providers.BinDir == ""):
		return errors.New("--credential-provider-config and --credential-provider-bin-dir go together")
	}
	return o.checkRuntime()
}

// How strict CRI-O's own engine is.
const (
	engineStrict  = "strict"
	engineLenient = "lenient"
)

func (o *ofNode) checkRuntime() error {
	if o.runtime != "" && o.runtime != onContainerd && o.runtime != onCrio {
		return fmt.Errorf("--runtime %q, expected %s or %s", o.runtime, onContainerd, onCrio)
	}
	return checkCrioEngine(o.crioEngine)
}

// find gives the runtime of the node below a root, and its socket there. One of which
// nothing answers is left to whoever asks it, to say so.
func (o *ofNode) find(root string) (runtime, socket string, err error) {
	containerd, crio := below(root, o.socket), below(root, o.crioSocket)
	switch {
	case o.runtime == onContainerd:
		return onContainerd, containerd, nil
	case o.runtime == onCrio:
		return onCrio, crio, nil
	case listens(containerd) && listens(crio):
		return "", "", fmt.Errorf("containerd answers at %s, and CRI-O at %s; name the one that the kubelet uses: --runtime containerd or crio", o.socket, o.crioSocket)
	case listens(crio):
		return onCrio, crio, nil
	}
	return onContainerd, containerd, nil
}

// below gives a path of a node whose root is a folder here. /var/run is a link to /run on
// nodes, which would lead to this root's own.
func below(root, path string) string {
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok && root != "" {
		path = "/run/" + rest
	}
	return filepath.Join(root, path)
}

func listens(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, 2*time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// installNode exits 1 where a policy is refused, or would refuse what runs.
func installNode(c *invocation) int {
	if err := c.onto.check(); err != nil {
		return c.misused(err)
	}
	options, err := c.onto.options()
	if err != nil {
		return c.misused(err)
	}
	if _, err := policy.ParseFile(c.onto.policy, options.Policy); err != nil {
		return c.end(exitRefused, err)
	}
	if os.Geteuid() != 0 {
		return c.misused(errors.New("needs root"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if c.onto.host != "" {
		return c.onHost(ctx)
	}
	runtime, socket, err := c.onto.find("")
	if err != nil {
		return c.misused(err)
	}
	options.Crio, options.Socket = runtime == onCrio, socket
	if !c.onto.acceptRefusals {
		refused, err := c.onto.refusals(ctx, runtime, socket)
		if err != nil {
			return c.fail(err)
		}
		for _, line := range refused {
			fmt.Fprintln(c.stderr, line)
		}
		if len(refused) > 0 && !c.onto.plan {
			return c.end(exitRefused, fmt.Errorf("%d containers run here that could not start again under this policy; nothing was changed: amend it, or --accept-refusals", len(refused)))
		}
	}
	if !c.json {
		mark := "✓ "
		if c.onto.plan {
			mark = "would change: "
		}
		options.Say = func(line string) { fmt.Fprintln(c.stderr, mark+line) }
	}
	done, err := install.Run(ctx, options)
	if refusal := (*code.Refusal)(nil); errors.As(err, &refusal) && refusal.Code == code.PolicyInvalid {
		return c.end(exitRefused, err)
	} else if err != nil {
		return c.fail(err)
	}
	if c.json {
		err = c.document(done)
	} else {
		err = c.showInstalledNode(done)
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}

func (c *invocation) showInstalledNode(done *install.Result) error {
	if done.Receipt != nil {
		if err := writeReceipt(c.stdout, done.Receipt); err != nil {
			return err
		}
	}
	word := "changed"
	if c.onto.plan {
		word = "would change"
	}
	_, err := fmt.Fprintf(c.stdout, "%s: %s: %d of %d steps %s\n", done.Node, done.Runtime, done.Changed, len(done.Steps), word)
	return err
}

// options reads what the files hold, before anything else.
func (o *ofNode) options() (install.Options, error) {
	found := install.Options{Lenient: o.crioEngine == engineLenient, Image: o.image, Version: version(), Plan: o.plan}
	var err error
	if found.Policy, err = bounded.File(o.policy, policy.MaxSize); err != nil {
		return found, err
	}
	if found.Signatures, err = bounded.File(o.policy+policy.Signatures, policy.MaxSignatures); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	for _, path := range o.policyKeys {
		key, err := bounded.File(path, maxKeyFile)
		if err != nil {
			return found, err
		}
		found.PolicyKeys = append(found.PolicyKeys, string(key))
	}
	if o.dockerConfig != "" {
		if found.DockerConfig, err = bounded.File(o.dockerConfig, maxLogins); err != nil {
			return found, err
		}
	}
	if o.providers.Config != "" {
		found.Providers = &o.providers
	}
	self, err := os.Executable()
	o.programs = filepath.Dir(self)
	found.Programs = o.programs
	return found, err
}

// uninstallNode takes enforcement off.
func uninstallNode(c *invocation) int {
	if os.Geteuid() != 0 {
		return c.misused(errors.New("needs root"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if c.onto.host != "" {
		arguments := []string{c.name}
		if c.onto.plan {
			arguments = append(arguments, "--plan")
		}
		if c.json {
			arguments = append(arguments, "--json")
		}
		return c.inHost(ctx, "/usr/local/bin/"+gateProgram, arguments...)
	}
	done, err := install.Uninstall(ctx, c.onto.plan)
	if err != nil {
		return c.fail(err)
	}
	if c.json {
		err = c.document(done)
	} else {
		word := "changed"
		if c.onto.plan {
			word = "would change"
		}
		for _, path := range done.Files {
			fmt.Fprintln(c.stdout, path)
		}
		_, err = fmt.Fprintf(c.stdout, "%d files %s\n", done.Changed, word)
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}
