package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"countersign/gate/internal/agent"
	"countersign/gate/internal/crio"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/relay"
)

// metricsSocket is where a node's gate serves its metrics (package install).
const metricsSocket = "/run/countersign/metrics.sock"

// looksAfter is what "agent" is told.
type looksAfter struct {
	host, node, namespace, policy, effect, metrics string
	metricsAuth                                    string
	phase, ready                                   string
	rollout                                        agent.Rollout
	every, prove                                   time.Duration
	policies, podEvents                            bool
}

// Phases of a roll-out.
const (
	toObserve = "observe"
	toEnforce = "enforce"
)

// Who is given metrics.
const (
	byToken = "token"
	byNone  = "none"
)

func (a *looksAfter) flags(flags *flag.FlagSet) {
	flags.StringVar(&a.host, "host", "/host", "the node's root `DIR`")
	flags.StringVar(&a.node, "node", os.Getenv("NODE_NAME"), "the node's `NAME` in the cluster (default $NODE_NAME)")
	flags.StringVar(&a.namespace, "namespace", os.Getenv("NAMESPACE"), "`NAMESPACE` of the policy's ConfigMap (default $NAMESPACE)")
	flags.StringVar(&a.policy, "policy-configmap", "", "`NAME` of the ConfigMap whose policy.json and policy.json.sig the gate takes; without it, policies come to the node by other ways")
	flags.BoolVar(&a.policies, "countersign-policies", false, "policies come as CountersignPolicies, and --namespace has what they name")
	flags.StringVar(&a.phase, "phase", toEnforce, "`PHASE` of the roll-out: observe, where no node refuses anything, or enforce")
	flags.Var((*agent.Labels)(&a.rollout.On), "enforce-on", "`LABELS` of the nodes that enforce, KEY=VALUE,…; the others observe (default: all enforce)")
	flags.Var((*agent.Labels)(&a.rollout.Canaries), "canaries", "`LABELS` of the nodes that enforce first, KEY=VALUE,…; the others follow when none of these complains")
	flags.DurationVar(&a.rollout.Soak, "soak", 10*time.Minute, "`TIME` that canaries have to enforce without a complaint before the others follow")
	flags.StringVar(&a.ready, "ready-file", "", "`FILE` that is there while the node is as it is to be")
	flags.StringVar(&a.effect, "taint-effect", "NoSchedule", "`EFFECT` of the taint of a node that does not enforce: NoSchedule, or NoExecute, which also ends what runs")
	flags.BoolVar(&a.podEvents, "pod-events", false, "tell each pod that is refused at start why, by an event in its namespace")
	flags.StringVar(&a.metrics, "metrics", "", "`[HOST]:PORT` where the metrics of the node's gate are handed on; nowhere without it")
	flags.StringVar(&a.metricsAuth, "metrics-auth", byToken, "`WAY`: token, by HTTPS to whoever has the token of an account that may get /metrics; none, by HTTP to everybody")
	flags.DurationVar(&a.every, "every", 30*time.Second, "`TIME` between two looks")
	flags.DurationVar(&a.prove, "prove-every", time.Hour, "`TIME` between two proofs while nothing changes")
}

func (a *looksAfter) check() error {
	switch {
	case a.node == "":
		return errors.New("--node is missing, and NODE_NAME is not set")
	case (a.policy != "" || a.policies) && a.namespace == "":
		return errors.New("--policy-configmap and --countersign-policies need --namespace")
	case a.policy != "" && a.policies:
		return errors.New("--policy-configmap and --countersign-policies: expected one of them")
	case a.phase != toObserve && a.phase != toEnforce:
		return fmt.Errorf("--phase %q, expected observe or enforce", a.phase)
	case a.rollout.Soak < 0:
		return errors.New("--soak is less than nothing")
	case a.metricsAuth != byToken && a.metricsAuth != byNone:
		return fmt.Errorf("--metrics-auth %q, expected token or none", a.metricsAuth)
	case a.effect != "NoSchedule" && a.effect != "NoExecute":
		return fmt.Errorf("--taint-effect %q, expected NoSchedule or NoExecute", a.effect)
	case a.every < time.Second || a.prove < time.Minute:
		return errors.New("--every must be 1s at least, --prove-every 1m")
	}
	return nil
}

// retiring is how long "retire" waits.
type retiring struct{ within time.Duration }

func (r *retiring) flags(flags *flag.FlagSet) {
	flags.DurationVar(&r.within, "within", 2*time.Minute, "`TIME` that the nodes have")
}

// retire has every node of the cluster take enforcement off.
func retire(c *invocation) int {
	api, err := agent.InCluster()
	if err != nil {
		return c.fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := agent.Retire(ctx, api, c.retiring.within, func(line string) { fmt.Fprintln(c.stderr, line) }); err != nil {
		return c.fail(err)
	}
	return exitOK
}

// lookAfter keeps the cluster informed of this node until it is told to end.
func lookAfter(c *invocation) int {
	if err := errors.Join(c.after.check(), c.onto.checkRuntime()); err != nil {
		return c.misused(err)
	}
	api, err := agent.InCluster()
	if err != nil {
		return c.fail(err)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(c.stderr, nil)))
	observer, err := c.observer()
	if err != nil {
		return c.misused(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := c.after.handsOn(ctx, api); err != nil {
		return c.fail(fmt.Errorf("--metrics: %w", err))
	}
	c.after.rollout.Observe = c.after.phase == toObserve
	err = agent.Run(ctx, agent.Options{
		API: api, Node: c.after.node, Namespace: c.after.namespace, Policy: c.after.policy, Policies: c.after.policies, Rollout: c.after.rollout,
		Every: c.after.every, Prove: c.after.prove, Effect: c.after.effect, PodEvents: c.after.podEvents, Ready: c.after.isReady,
		Host: agent.NewNode(c.after.host, observer, c.installs),
	})
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}

// handsOn hands the gate's metrics on, where that was asked for.
func (a *looksAfter) handsOn(ctx context.Context, api *agent.API) (err error) {
	if a.metrics == "" {
		return nil
	}
	var secure *tls.Config
	var may relay.May
	if a.metricsAuth == byToken {
		may = api.MayScrape
		if secure, err = relay.SelfSigned(a.node); err != nil {
			return err
		}
	}
	listener, err := relay.Listen(a.metrics, secure)
	if err != nil {
		return err
	}
	go func() {
		if err := relay.Serve(ctx, listener, filepath.Join(a.host, metricsSocket), may); err != nil {
			slog.Error("metrics are not handed on", "error", err)
		}
	}()
	return nil
}

// isReady keeps the file that a readiness probe looks for.
func (a *looksAfter) isReady(ready bool) {
	if a.ready == "" {
		return
	}
	err := os.Remove(a.ready)
	if ready {
		err = os.WriteFile(a.ready, nil, 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		slog.Error("the readiness probe is not told", "error", err)
	}
}

// ready exits 0 where the file is there.
func ready(c *invocation) int {
	if _, err := os.Stat(c.arguments[0]); err != nil {
		fmt.Fprintf(c.stderr, "error: %s: this node is not as it is to be yet: kubectl get countersignnodes\n", c.name)
		return exitRefused
	}
	return exitOK
}

// observer gives what judges this node's starts while it enforces nothing.
func (c *invocation) observer() (*agent.Observer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := &agent.Observer{Root: c.after.host, Program: self, Stderr: c.stderr}
	c.onto.policy = os.DevNull // the cluster has it
	given, err := c.onto.options()
	if err != nil {
		return nil, err
	}
	registry := map[string]any{}
	if given.Providers != nil {
		registry["credentialProviders"] = given.Providers
	}
	o.Logins = given.DockerConfig
	o.Settings = map[string]any{"registry": registry}
	o.Runtime = c.runtimeBlock
	if len(given.PolicyKeys) > 0 {
		o.Settings["policyKeys"] = given.PolicyKeys
		o.Keys, err = policy.ParseKeys("policy keys", given.PolicyKeys)
	}
	return o, err
}

// runtimeBlock is what gate.json has of the node's runtime, for an observer.
func (c *invocation) runtimeBlock(ctx context.Context) (name string, block map[string]any, err error) {
	name, socket, err := c.onto.find(c.after.host)
	if err != nil || name == onContainerd {
		return name, map[string]any{"address": c.onto.socket}, err
	}
	found, err := crio.Inspect(ctx, socket)
	if err != nil {
		return "", nil, err
	}
	block = map[string]any{"root": found.Root, "runRoot": found.RunRoot, "socket": c.onto.crioSocket}
	if found.NRI != "" {
		block["nri"] = found.NRI
	}
	return name, block, nil
}

// installs has the node brought under enforcement, as "install --host" does.
func (c *invocation) installs(ctx context.Context, p agent.Policy) (err error) {
	folder, err := os.MkdirTemp(filepath.Join(c.after.host, "run"), "countersign-policy-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	inner := *c
	inner.name, inner.onto.host, inner.onto.policy = "install", c.after.host, filepath.Join(folder, "policy.json")
	if err := os.WriteFile(inner.onto.policy, p.Content, 0o600); err != nil {
		return err
	}
	if len(p.Signatures) > 0 {
		if err := os.WriteFile(inner.onto.policy+policy.Signatures, p.Signatures, 0o600); err != nil {
			return err
		}
	}
	var said bytes.Buffer
	inner.stdout, inner.stderr = c.stderr, io.MultiWriter(c.stderr, &said)
	if code := inner.onHost(ctx); code != exitOK {
		return inTheWay(said.String())
	}
	return nil
}

// inTheWay gives what an install said last, and the first container that it would refuse.
func inTheWay(said string) error {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	text := strings.TrimPrefix(strings.TrimPrefix(lines[len(lines)-1], "error: "), "install: ")
	for _, line := range lines {
		if rest, ok := strings.CutPrefix(line, wouldBeRefused); ok {
			return fmt.Errorf("%s; the first is %s", text, rest)
		}
	}
	return errors.New(text)
}
