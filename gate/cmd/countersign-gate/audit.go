package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"countersign/gate/internal/audit"
	"countersign/gate/internal/config"
	"countersign/gate/internal/cri"
	"countersign/gate/internal/crio"
	"countersign/gate/internal/daemon"
	"countersign/gate/internal/engine"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

// auditing is what "audit" is told.
type auditing struct {
	images       bool
	stop         bool
	online       bool
	policy       string
	runtime      string
	socket       string
	dockerConfig string
	certsDir     string
}

const (
	onContainerd = "containerd"
	onCrio       = "crio"
)

func (a *auditing) flags(flags *flag.FlagSet) {
	flags.BoolVar(&a.images, "images", false, "judge the cached images as well, by the names that the runtime has for them")
	flags.BoolVar(&a.stop, "stop", false, "stop the containers that are refused; never where no verdict could be had, and no pinned image")
	flags.BoolVar(&a.online, "online", false, "ask registries for what the node has no evidence of, as a start would")
	flags.StringVar(&a.policy, "policy", "", "judge by the rendered policy `FILE` instead of the one in force; nothing is logged")
	flags.StringVar(&a.runtime, "runtime", "", "with --policy: the node's `RUNTIME`, containerd or crio, where no gate is installed; gate.json is not read")
	flags.StringVar(&a.socket, "socket", "", "with --runtime: the runtime's own socket `PATH`")
	flags.StringVar(&a.dockerConfig, "docker-config", "", "with --runtime and --online: Docker config.json `FILE` for registries")
	flags.StringVar(&a.certsDir, "certs-dir", "", "with --runtime and --online: certs.d `DIR` for registries")
}

func (a *auditing) check() error {
	switch {
	case a.stop && a.policy != "":
		return errors.New("--stop goes by the policy in force, not by --policy")
	case a.runtime != "" && a.policy == "":
		return errors.New("--runtime needs --policy: without gate.json no policy is in force")
	case a.runtime != "" && a.runtime != onContainerd && a.runtime != onCrio:
		return fmt.Errorf("--runtime %q, expected %s or %s", a.runtime, onContainerd, onCrio)
	case a.runtime == "" && (a.socket != "" || a.dockerConfig != "" || a.certsDir != ""):
		return errors.New("--socket, --docker-config and --certs-dir go with --runtime; else gate.json has them")
	}
	return nil
}

// settings gives gate.json, or what stands for it where no gate is installed: with an
// evidence store that is empty and, by forget, goes away.
func (a *auditing) settings(ctx context.Context, configPath string) (settings *config.Config, forget func() error, err error) {
	nothing := func() error { return nil }
	if a.runtime == "" {
		settings, err = config.Load(configPath)
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w; where no gate is installed, give --policy FILE and --runtime", err)
		}
		return settings, nothing, err
	}
	block := map[string]any{}
	if a.runtime == onCrio {
		socket := a.socket
		if socket == "" {
			socket = config.CrioSocket
		}
		asked, err := crio.Inspect(ctx, socket)
		if err != nil {
			return nil, nothing, err
		}
		block = map[string]any{"root": asked.Root, "runRoot": asked.RunRoot, "socket": socket}
	} else if a.socket != "" {
		block["address"] = a.socket
	}
	dir, err := os.MkdirTemp("", "countersign-audit-")
	if err != nil {
		return nil, nothing, err
	}
	forget = func() error { return os.RemoveAll(dir) }
	document, err := json.Marshal(map[string]any{
		a.runtime: block, "evidence": map[string]any{"dir": dir}, "log": "-",
		"registry": map[string]any{"certsDir": a.certsDir, "dockerConfig": a.dockerConfig},
	})
	if err == nil {
		settings, err = config.Parse(document)
	}
	if err != nil {
		return nil, nothing, errors.Join(err, forget())
	}
	return settings, forget, nil
}

// runAudit judges what runs, shows it, and with --stop stops what is refused.
func runAudit(c *invocation) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(c.stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := c.audit.check(); err != nil {
		return c.misspelt(err)
	}
	settings, forget, err := c.audit.settings(ctx, c.configPath)
	if err != nil && c.audit.runtime != "" {
		return c.fail(err)
	}
	if err != nil {
		return c.misused(err)
	}
	p, err := c.audit.loadPolicy(settings)
	if err != nil {
		return c.misused(errors.Join(err, forget()))
	}
	report, err := c.audit.report(ctx, settings, p)
	if err = errors.Join(err, forget()); err != nil {
		return c.fail(err)
	}
	if c.json {
		err = c.document(report)
	} else {
		err = report.Table(c.stdout)
	}
	switch {
	case err != nil:
		return c.fail(err)
	case report.Refused > 0 || report.NotJudged > 0:
		return exitRefused
	}
	return exitOK
}

// loadPolicy gives the policy in force, as a gate that starts now would have it, or the
// one that was given.
func (a *auditing) loadPolicy(settings *config.Config) (*policy.Policy, error) {
	if a.policy != "" {
		return policy.Load(a.policy)
	}
	return settings.PolicyFile().Load()
}

func (a *auditing) report(ctx context.Context, settings *config.Config, p *policy.Policy) (*audit.Report, error) {
	store, err := openStore(settings)
	if err != nil {
		return nil, err
	}
	defer store.Flush()
	binder, err := newBinder(settings)
	if err != nil {
		return nil, err
	}
	defer func() { _ = binder.Close() }()
	observer, err := a.observer(settings)
	if err != nil {
		return nil, err
	}
	gate := newEngine(settings, store, binder, observer, nil)
	gate.SetPolicy(p)
	if !a.online {
		gate = gate.Offline()
	}
	runtime, err := cri.New(runtimeSocket(settings))
	if err != nil {
		return nil, err
	}
	defer func() { _ = runtime.Close() }()
	report, err := audit.Run(ctx, runtime, gate, a.images)
	if err == nil && a.stop {
		report.Stop(ctx, runtime)
	}
	return report, err
}

// observer writes verdicts under the policy in force into the gate's own log, and others
// nowhere.
func (a *auditing) observer(settings *config.Config) (engine.Observer, error) {
	if a.policy != "" || settings.Log == "-" || settings.Log == "" {
		return silent{}, nil
	}
	log, err := daemon.OpenLog(settings.Log, settings.LogRotation.MaxBytes, settings.LogRotation.Keep)
	return logging{log}, err
}

// logging is an observer without metrics: this process has nobody to ask for them.
type logging struct{ log *daemon.Log }

func (l logging) Verdict(v *verdict.Verdict) { _ = l.log.Write(v) } // what fails, it tells itself
func (logging) Verification()                {}

// runtimeSocket is where the node's runtime serves CRI.
func runtimeSocket(settings *config.Config) string {
	if settings.Crio != nil {
		return settings.Crio.Socket
	}
	return settings.Containerd.Address
}
