package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"countersign/gate/internal/policy"
)

// onHost has the node itself do it: programs and files are brought below its root, and
// the program runs there.
func (c *invocation) onHost(ctx context.Context) (code int) {
	folder, err := os.MkdirTemp(filepath.Join(c.onto.host, "var", "lib"), "countersign-install-") // programs don't run from /run
	if err != nil {
		return c.fail(err)
	}
	defer func() {
		if err := os.RemoveAll(folder); err != nil && code == exitOK {
			code = c.fail(err)
		}
	}()
	arguments, err := c.onto.bring(folder)
	if err != nil {
		return c.fail(err)
	}
	if c.json {
		arguments = append(arguments, "--json")
	}
	inside := strings.TrimPrefix(folder, filepath.Clean(c.onto.host))
	return c.inHost(ctx, filepath.Join(inside, gateProgram), append([]string{c.name}, arguments...)...)
}

const (
	gateProgram = "countersign-gate"
	hookProgram = "countersign-hook"
)

// bring copies what the node's own install reads, and gives its arguments.
func (o *ofNode) bring(folder string) (arguments []string, err error) {
	inside := strings.TrimPrefix(folder, filepath.Clean(o.host))
	put := func(from, name string, mode fs.FileMode) error {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(folder, name), content, mode)
	}
	for _, name := range []string{gateProgram, hookProgram} {
		if err := put(filepath.Join(o.programs, name), name, 0o755); err != nil {
			return nil, err
		}
	}
	given := func(option, from, name string) error {
		arguments = append(arguments, option, filepath.Join(inside, name))
		return put(from, name, 0o600)
	}
	if err := given("--policy", o.policy, "policy.json"); err != nil {
		return nil, err
	}
	if err := put(o.policy+policy.Signatures, "policy.json"+policy.Signatures, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for i, key := range o.policyKeys {
		if err := given("--policy-key", key, fmt.Sprintf("key-%d.pem", i)); err != nil {
			return nil, err
		}
	}
	if o.dockerConfig != "" {
		if err := given("--docker-config", o.dockerConfig, "docker.json"); err != nil {
			return nil, err
		}
	}
	if o.providers.Config != "" {
		arguments = append(arguments, "--credential-provider-config", o.providers.Config, "--credential-provider-bin-dir", o.providers.BinDir)
	}
	if o.image != "" {
		arguments = append(arguments, "--image", o.image)
	}
	if o.plan {
		arguments = append(arguments, "--plan")
	}
	if o.acceptRefusals {
		arguments = append(arguments, "--accept-refusals")
	}
	if o.runtime != "" {
		arguments = append(arguments, "--runtime", o.runtime)
	}
	return append(arguments, "--containerd-socket", o.socket, "--crio-socket", o.crioSocket, "--crio-engine", o.crioEngine), nil
}

// inHost runs a program of the node, below its root, and gives its exit code.
func (c *invocation) inHost(ctx context.Context, program string, arguments ...string) int {
	command := exec.CommandContext(ctx, program, arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: c.onto.host}
	command.Dir = "/"
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	command.Stdout, command.Stderr = c.stdout, c.stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	err := command.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ended) && ended.ExitCode() >= 0:
		return ended.ExitCode()
	}
	return c.fail(err)
}
