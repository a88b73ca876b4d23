package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"countersign/gate/internal/audit"
	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/containerspolicy"
	"countersign/gate/internal/crio"
	"countersign/gate/internal/policy"
)

// refusals tells of what runs and could not start again under the policy, a line each.
// Sandboxes are none: theirs is pinned.
func (o *ofNode) refusals(ctx context.Context, runtime, socket string) ([]string, error) {
	judged := auditing{policy: o.policy, runtime: runtime, socket: socket, dockerConfig: o.dockerConfig, certsDir: "/etc/containerd/certs.d", online: true}
	settings, forget, err := judged.settings(ctx, "")
	if err != nil {
		return nil, err
	}
	p, err := judged.loadPolicy(settings)
	if err != nil {
		return nil, errors.Join(err, forget())
	}
	report, err := judged.report(ctx, settings, p)
	if err = errors.Join(err, forget()); err != nil {
		return nil, err
	}
	var found []string
	for _, one := range report.Containers {
		if one.Allow && runtime == onCrio && o.crioEngine == engineStrict {
			err = pulledBefore(ctx, settings.Crio, p, &one)
		}
		if err != nil {
			return nil, err
		}
		if !one.Allow {
			found = append(found, wouldRefuse(one))
		}
	}
	return found, nil
}

// pulledBefore makes a refusal of a container that the gate allows, and CRI-O's own engine
// does not: by the signatures that were stored with its image.
func pulledBefore(ctx context.Context, storage *config.Crio, p *policy.Policy, one *audit.Entry) error {
	if one.Code != code.OK || !containerspolicy.Asks(p, one.Scope) {
		return nil
	}
	signed, err := crio.New(crio.Config{Root: storage.Root, RunRoot: storage.RunRoot, Timeout: storesWithin}).Signed(ctx, one.Container)
	if err != nil || signed {
		return err
	}
	one.Allow, one.Remedy = false, ""
	one.Message = "CRI-O's own engine has no signature of it in its store, where only a pull brings one; go on with --accept-refusals and pull it again afterwards (crictl pull), or have it leave signatures to the gate with --crio-engine lenient"
	return nil
}

// storesWithin bounds a look into CRI-O's storage.
const storesWithin = 5 * time.Second

const wouldBeRefused = "would be refused: "

func wouldRefuse(one audit.Entry) string {
	line := fmt.Sprintf(wouldBeRefused+"%s/%s %s: %s", one.Namespace, one.Pod, one.Image, one.Message)
	if one.Remedy != "" {
		line += "; allowed by: " + one.Remedy
	}
	return line
}
