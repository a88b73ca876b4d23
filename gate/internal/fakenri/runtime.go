// Package fakenri is, for tests, the side of NRI that a runtime runs: NRI's own code,
// with its default validator, used as containerd uses it.
package fakenri

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	validator "github.com/containerd/nri/plugins/default-validator"
)

// Start has NRI listen at a socket until the test ends, and require a plugin.
func Start(t *testing.T, socket, required string) *adaptation.Adaptation {
	t.Helper()
	dir := t.TempDir()
	synchronize := func(ctx context.Context, call adaptation.SyncCB) error {
		_, err := call(ctx, nil, nil)
		return err
	}
	update := func(context.Context, []*adaptation.ContainerUpdate) ([]*adaptation.ContainerUpdate, error) {
		return nil, nil
	}
	r, err := adaptation.New("cri-o", "1.36.3", synchronize, update, adaptation.WithSocketPath(socket),
		adaptation.WithPluginPath(filepath.Join(dir, "plugins")), adaptation.WithPluginConfigPath(filepath.Join(dir, "conf")),
		adaptation.WithDefaultValidator(&validator.DefaultValidatorConfig{Enable: true, RequiredPlugins: []string{required}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// Create asks the plugins about a new container that has hooks, and gives the hooks that
// it ends up with. As in containerd, no plugin is synchronised meanwhile.
func Create(r *adaptation.Adaptation, has ...*api.Hook) ([]*api.Hook, error) {
	defer r.BlockPluginSync().Unblock()
	response, err := r.CreateContainer(context.Background(), &adaptation.CreateContainerRequest{
		Pod:       &api.PodSandbox{Id: "pod", Name: "pod", Namespace: "ns"},
		Container: &api.Container{Id: "container", PodSandboxId: "pod", Name: "main", Hooks: &api.Hooks{CreateRuntime: has}},
	})
	return append(has, response.GetAdjust().GetHooks().GetCreateRuntime()...), err
}
