package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"countersign/gate/internal/config"
	"countersign/gate/internal/daemon"
	"countersign/gate/internal/externaldata"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/registry"
)

// Times of the provider; they nest: registry < verdict < one request < the timeout in
// Gatekeeper's Provider < that of its webhook.
const (
	providerRegistry = 3 * time.Second
	providerVerdict  = 5 * time.Second
	providerRequest  = 6 * time.Second
	maxKept          = time.Minute
)

// gatekeepersName is in Gatekeeper's own certificate, by which it asks.
const gatekeepersName = "gatekeeper-webhook-service.gatekeeper-system.svc"

// external is what "provider" is told.
type external struct {
	listen, health, policy, state   string
	dockerConfig, certsDir          string
	cert, key, clientCA, clientName string
	policyKeys                      files
	cache                           time.Duration
}

func (e *external) flags(flags *flag.FlagSet) {
	flags.StringVar(&e.listen, "listen", ":8443", "`ADDRESS` at which Gatekeeper asks, by HTTPS at "+externaldata.Path)
	flags.StringVar(&e.health, "health", "", "`ADDRESS` that answers GET /healthz by HTTP: 200 while a policy is in force")
	flags.StringVar(&e.policy, "policy", "", "rendered policy `FILE`; a change is in force at once")
	flags.Var(&e.policyKeys, "policy-key", "public key `FILE`: one of those given must have signed the policy, in FILE.sig")
	flags.StringVar(&e.state, "state", "", "`DIR` for evidence and the highest serial of a policy (default: a temporary folder)")
	flags.StringVar(&e.dockerConfig, "docker-config", "", "Docker config.json `FILE` for registries")
	flags.StringVar(&e.certsDir, "certs-dir", "", "certs.d `DIR` for registries")
	flags.StringVar(&e.cert, "tls-cert", "", "certificate `FILE` of the provider")
	flags.StringVar(&e.key, "tls-key", "", "private key `FILE` of the provider")
	flags.StringVar(&e.clientCA, "client-ca", "", "`FILE` of the CA that certifies Gatekeeper")
	flags.StringVar(&e.clientName, "client-name", gatekeepersName, "DNS `NAME` that the client's certificate must have")
	flags.DurationVar(&e.cache, "cache", 5*time.Second, "`TIME` for which an answer that allows may be given again; 0: never")
}

func (e *external) check() error {
	for _, given := range []struct{ option, value string }{
		{"policy", e.policy}, {"tls-cert", e.cert}, {"tls-key", e.key}, {"client-ca", e.clientCA}, {"client-name", e.clientName},
	} {
		if given.value == "" {
			return fmt.Errorf("--%s is missing", given.option)
		}
	}
	if e.cache < 0 || e.cache > maxKept {
		return fmt.Errorf("--cache %s, expected 0s to %s", e.cache, maxKept)
	}
	return nil
}

// provide answers Gatekeeper until it is told to end.
func provide(c *invocation) int {
	if err := c.external.check(); err != nil {
		return c.misused(err)
	}
	tightenMemory()
	slog.SetDefault(slog.New(slog.NewTextHandler(c.stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	listener, err := net.Listen("tcp", c.external.listen)
	if err == nil {
		err = c.external.run(ctx, listener)
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}

// run puts the provider together, with the engine of the daemon, and serves until the
// context ends.
func (e *external) run(ctx context.Context, listener net.Listener) (err error) {
	defer func() { _ = listener.Close() }()
	state := e.state
	if state == "" {
		if state, err = os.MkdirTemp("", "countersign-provider-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	}
	settings := &config.Config{}
	settings.Evidence = config.Evidence{Dir: filepath.Join(state, "evidence"), MaxBytes: inProcessEvidence, MaxEntries: inProcessEntries}
	settings.Timeouts.Verdict, settings.Timeouts.Pull = config.Duration(providerVerdict), config.Duration(providerVerdict)
	store, err := openStore(settings)
	if err != nil {
		return err
	}
	defer store.Flush()
	log, err := daemon.OpenLog("-", 0, 0)
	if err != nil {
		return err
	}
	metrics := daemon.NewMetrics(version(), store.Usage)
	source := registry.Config{CertsDir: e.certsDir, DockerConfig: e.dockerConfig, Timeout: providerRegistry, Spool: store.Spool()}
	gate := engineOver(settings, registry.New(source), store, nowhere{}, daemon.Observer{Log: log, Metrics: metrics})

	file := policy.File{Path: e.policy, Mark: filepath.Join(state, "policy-mark.json")}
	if file.Keys, err = e.readPolicyKeys(); err != nil {
		return err
	}
	watcher := daemon.NewWatcher(file, gate, metrics, daemon.NewNotifier(os.Getenv))
	server, err := externaldata.New(externaldata.Config{Engine: gate, Budget: providerRequest, Keep: e.cache,
		Cert: e.cert, Key: e.key, ClientCA: e.clientCA, ClientName: e.clientName})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, listener) })
	group.Go(func() error { return watcher.Watch(ctx, nil) })
	if e.health != "" {
		group.Go(func() error { return e.tellHealth(ctx, gate.PolicyHash) })
	}
	slog.Info("answering Gatekeeper", "address", listener.Addr(), "client", e.clientName, "version", version())
	return group.Wait()
}

func (e *external) readPolicyKeys() ([]policy.Key, error) {
	if len(e.policyKeys) == 0 {
		return nil, nil // no signature is asked for
	}
	var texts []string
	for _, path := range e.policyKeys {
		text, err := readKeyFile(path)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return policy.ParseKeys("--policy-key", texts)
}

// tellHealth answers whoever looks whether the provider can judge. Without a policy it
// answers too, and refuses everything.
func (e *external) tellHealth(ctx context.Context, policyHash func() string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if policyHash() == "" {
			http.Error(w, "no policy is in force: everything is refused", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "policy", policyHash())
	})
	server := &http.Server{Addr: e.health, Handler: mux, ReadTimeout: providerRegistry, WriteTimeout: providerRegistry, MaxHeaderBytes: 4 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
