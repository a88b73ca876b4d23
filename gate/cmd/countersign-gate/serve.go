package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"countersign/gate/internal/audit"
	"countersign/gate/internal/bind"
	"countersign/gate/internal/config"
	"countersign/gate/internal/cri"
	"countersign/gate/internal/crio"
	"countersign/gate/internal/daemon"
	"countersign/gate/internal/engine"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/handlers"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/nri"
	"countersign/gate/internal/observe"
	"countersign/gate/internal/provider"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/wire"
)

// The daemon's live data are a few MiB, so a tight heap costs next to nothing. Under an
// attack it is the limit that holds, and each collection less is one that honest verdicts
// do not wait for.
const (
	gcPercent   = 300
	memoryLimit = 32 << 20

	// processors is how many goroutines run at once for each that there is. With more than
	// the machine has, a verdict that needs little runs beside those that need much: the
	// kernel lets it, as it lets any thread that has slept.
	processors = 2
)

// serve runs the daemon until SIGTERM or SIGINT. SIGHUP reopens the log and reads
// the policy again; SIGUSR2 has the program that lies at its path now take over.
func serve(c *invocation) int { return c.daemon(enforcing) }

// mode is what a daemon does with a refusal.
type mode bool

const (
	enforcing mode = false
	observing mode = true
)

func (c *invocation) daemon(m mode) int {
	tightenMemory()
	useProcessors()
	slog.SetDefault(slog.New(slog.NewTextHandler(c.stderr, nil)))
	settings, err := c.settings()
	if err != nil {
		return c.misused(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, settings, next(c.name, c.configPath), m); err != nil {
		return c.fail(err)
	}
	return exitOK
}

func tightenMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// useProcessors lets more goroutines run at once than there are processors.
func useProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors * runtime.GOMAXPROCS(0))
	}
}

// run puts the daemon together and serves until the context ends, or the next
// gate has taken over.
func run(ctx context.Context, settings *config.Config, next program, m mode) error {
	if m == observing {
		if err := withoutHook(ctx, settings); err != nil {
			return err
		}
	}
	log, err := daemon.OpenLog(settings.Log, settings.LogRotation.MaxBytes, settings.LogRotation.Keep)
	if err != nil {
		return err
	}
	store, err := openStore(settings)
	if err != nil {
		return err
	}
	defer store.Flush()
	binder, err := newBinder(settings)
	if err != nil {
		return err
	}
	defer func() { _ = binder.Close() }()
	binder.Connect()
	metrics := daemon.NewMetrics(version(), store.Usage)
	metrics.Limits(store.Limits())
	gate := newEngine(settings, store, binder, daemon.Observer{Log: log, Metrics: metrics}, metrics.LookedUp)

	sockets, err := daemon.OpenSockets(os.Getenv, settings.Socket, settings.Metrics)
	if err != nil {
		return err
	}
	defer func() { _ = sockets.Close() }()
	notifier := daemon.NewNotifier(os.Getenv)
	watcher := daemon.NewWatcher(settings.PolicyFile(), gate, metrics, notifier)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	background := func(what string, work func() error) {
		go func() {
			if err := work(); err != nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		}()
	}
	server := daemon.NewServer(gate, sockets.Listener)
	server.Observing, server.Policy = m == observing, watcher.State
	if err := mayTakeOver(sockets, gate); err != nil {
		return err
	}
	plugin, err := attend(ctx, settings, m, gate, metrics, background, displacer(sockets, cancel))
	if err != nil {
		return err
	}
	server.NRI = plugin.State
	if plugin != nil {
		metrics.WatchNRI(plugin.Registered)
	}
	if err := takeOver(ctx, sockets, plugin); err != nil {
		return err
	}
	background("serve", server.Serve)
	background("watch policy", func() error { return watcher.Watch(ctx, onHangup(ctx, log)) })
	if sockets.Metrics != nil {
		background("metrics", func() error { return metrics.Serve(ctx, sockets.Metrics) })
	}
	go handOver(ctx, sockets, next, plugin, notifier.MainPID, func() { cancel(errHandedOver) })
	go notifier.Watch(ctx, func(ctx context.Context) error {
		_, err := wire.Call(ctx, settings.Socket, wire.Ping, nil)
		return err
	})
	notifier.Ready()
	if m == observing {
		notifier.Status(daemon.NotEnforcing)
		slog.Warn(daemon.NotEnforcing)
	}
	slog.Info("serving", "socket", settings.Socket, "version", version())
	<-ctx.Done()
	cause := context.Cause(ctx)
	if !errors.Is(cause, errHandedOver) {
		notifier.Stopping()
	}
	server.Shutdown()
	slog.Info("stopped", "why", cause)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, errHandedOver) {
		return nil
	}
	return cause
}

// attend begins all that the gate does besides answering: it watches over its hook, or
// judges what starts without one, and audits what runs. It gives its NRI plugin, nil for
// none; displace has that of the gate before leave.
func attend(ctx context.Context, settings *config.Config, m mode, gate *engine.Engine, metrics *daemon.Metrics, background func(string, func() error), displace func() error) (*nri.Plugin, error) {
	runtime, err := cri.New(runtimeSocket(settings))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = runtime.Close() })
	if every := time.Duration(settings.Audit.Every); every > 0 {
		metrics.WatchAudits()
		go audit.Watch(ctx, every, runtime, func() audit.Judge { return gate.Offline() }, metrics.Audited)
	}
	if m == observing {
		metrics.Observes()
		return startObserving(ctx, settings, observe.New(gate, runtime, metrics.Missed), background, displace), nil
	}
	if c := settings.Containerd; settings.Crio == nil {
		metrics.WatchHandlers()
		go handlers.Watch(ctx, handlers.Config{Address: c.Address, Hook: c.Hook, Gate: settings.Socket}, handlers.Every, metrics.HandlersWithoutHook)
	}
	return watchHook(ctx, settings, displace), nil
}

// watchHook has an NRI plugin see to it that no container starts without the hook.
func watchHook(ctx context.Context, settings *config.Config, displace func() error) *nri.Plugin {
	types := func() *handlers.Types { return handlers.OfContainerd(settings.Containerd.Address) }
	watched := nri.Config{Socket: settings.Containerd.NRI, Runtime: settings.Containerd.Address, Hook: settings.Containerd.Hook, Gate: settings.Socket, Displace: displace}
	if c := settings.Crio; c != nil {
		watched = nri.Config{Socket: c.NRI, Runtime: c.Socket, Hook: c.Hook, Gate: settings.Socket, Adds: true, Displace: displace}
		types = func() *handlers.Types { return handlers.OfCrio(c.Socket) }
	}
	watched.Runs = func() func(context.Context, string) error { return types().RunHooks }
	if watched.Socket == "" {
		return nil
	}
	plugin := nri.New(watched)
	plugin.Start(ctx)
	return plugin
}

// onHangup turns SIGHUP into a reopened log and a tick for the policy's watcher.
func onHangup(ctx context.Context, log *daemon.Log) <-chan struct{} {
	signals := make(chan os.Signal, 1)
	reload := make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				if err := log.Reopen(); err != nil {
					slog.Error("verdict log not reopened", "error", err)
				}
				select {
				case reload <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return reload
}

func openStore(settings *config.Config) (*evidence.Store, error) {
	return evidence.Open(evidence.Config{
		Dir:        settings.Evidence.Dir,
		MaxBytes:   settings.Evidence.MaxBytes,
		MaxEntries: settings.Evidence.MaxEntries,
		Evicted: func(repository, digest string) {
			slog.Warn("evidence evicted: the store is full", "repository", repository, "digest", digest)
		},
	})
}

// binder is one runtime's side of a verdict.
type binder interface {
	engine.Binder
	Connect()
	Close() error
}

func newBinder(settings *config.Config) (binder, error) {
	if c := settings.Crio; c != nil {
		return crio.New(crio.Config{Root: c.Root, RunRoot: c.RunRoot, Timeout: time.Duration(settings.Timeouts.Runtime)}), nil
	}
	return bind.New(bind.Config{
		Address:      settings.Containerd.Address,
		Namespace:    settings.Containerd.Namespace,
		Snapshotters: settings.Containerd.Snapshotters,
		Timeout:      time.Duration(settings.Timeouts.Runtime),
	})
}

func newEngine(settings *config.Config, store *evidence.Store, binder engine.Binder, observer engine.Observer, lookedUp func(time.Duration, error)) *engine.Engine {
	return engineOver(settings, registry.New(registry.Config{
		CertsDir:     settings.Registry.CertsDir,
		DockerConfig: settings.Registry.DockerConfig,
		Providers:    newProviders(settings.Registry.CredentialProviders),
		Timeout:      time.Duration(settings.Timeouts.Registry),
		Spool:        store.Spool(),
		LookedUp:     lookedUp,
	}), store, binder, observer)
}

// engineOver makes an engine that looks images and signatures up with client.
func engineOver(settings *config.Config, client *registry.Client, store *evidence.Store, binder engine.Binder, observer engine.Observer) *engine.Engine {
	collector := evidence.Collector{Store: store, Registry: client}
	judges := judge.New(collector)
	return engine.New(engine.Parts{
		Binder:    binder,
		Judge:     judges,
		Offline:   judges.Offline(),
		Evidence:  store,
		Collector: &collector,
		Registry:  client,
		Observer:  observer,
		Timeouts:  engine.Timeouts{Verdict: time.Duration(settings.Timeouts.Verdict), Pull: time.Duration(settings.Timeouts.Pull)},
	})
}

// newProviders gives the kubelet's credential providers; nil where none are set.
func newProviders(settings *config.CredentialProviders) *provider.Providers {
	if settings == nil {
		return nil
	}
	return provider.New(provider.Config{Config: settings.Config, BinDir: settings.BinDir})
}
