package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"countersign/gate/internal/agent"
	"countersign/gate/internal/relay"
)

// metricsSocket is where a node's gate serves its metrics (package install).
const metricsSocket = "/run/countersign/metrics.sock"

// looksAfter is what "agent" is told.
type looksAfter struct {
	host, node, namespace, policy, effect, metrics string
	every, prove                                   time.Duration
}

func (a *looksAfter) flags(flags *flag.FlagSet) {
	flags.StringVar(&a.host, "host", "/host", "the node's root `DIR`")
	flags.StringVar(&a.node, "node", os.Getenv("NODE_NAME"), "the node's `NAME` in the cluster (default $NODE_NAME)")
	flags.StringVar(&a.namespace, "namespace", os.Getenv("NAMESPACE"), "`NAMESPACE` of the policy's ConfigMap (default $NAMESPACE)")
	flags.StringVar(&a.policy, "policy-configmap", "", "`NAME` of the ConfigMap whose policy.json and policy.json.sig the gate takes; without it, policies come to the node by other ways")
	flags.StringVar(&a.effect, "taint-effect", "NoSchedule", "`EFFECT` of the taint of a node that does not enforce: NoSchedule, or NoExecute, which also ends what runs")
	flags.StringVar(&a.metrics, "metrics", "", "`[HOST]:PORT` where the metrics of the node's gate are handed on; nowhere without it")
	flags.DurationVar(&a.every, "every", 30*time.Second, "`TIME` between two looks")
	flags.DurationVar(&a.prove, "prove-every", time.Hour, "`TIME` between two proofs while nothing changes")
}

func (a *looksAfter) check() error {
	switch {
	case a.node == "":
		return errors.New("--node is missing, and NODE_NAME is not set")
	case a.policy != "" && a.namespace == "":
		return errors.New("--policy-configmap needs --namespace")
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
	if err := c.after.check(); err != nil {
		return c.misused(err)
	}
	api, err := agent.InCluster()
	if err != nil {
		return c.fail(err)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(c.stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if c.after.metrics != "" {
		listener, err := relay.Listen(c.after.metrics)
		if err != nil {
			return c.fail(fmt.Errorf("--metrics: %w", err))
		}
		go func() {
			if err := relay.Serve(ctx, listener, filepath.Join(c.after.host, metricsSocket)); err != nil {
				slog.Error("metrics are not handed on", "error", err)
			}
		}()
	}
	err = agent.Run(ctx, agent.Options{
		API: api, Node: c.after.node, Namespace: c.after.namespace, Policy: c.after.policy,
		Every: c.after.every, Prove: c.after.prove, Effect: c.after.effect, Host: agent.Below(c.after.host),
	})
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}
