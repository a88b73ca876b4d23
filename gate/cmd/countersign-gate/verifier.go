package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/wire"
)

// maxDescriptor bounds the descriptor that containerd writes to stdin.
const maxDescriptor = 1 << 20

// maxReason bounds what containerd is told of a request that never reached the gate.
const maxReason = 2048

// imageVerifier is containerd's pull-time plugin: containerd calls it with
// -name, -digest and -stdin-media-type, shows its stdout as the reason, and
// pulls only if it exits 0.
func imageVerifier(args []string, stdin io.Reader, stdout io.Writer) int {
	request, err := pullRequest(args, stdin)
	if err != nil {
		return block(stdout, request.Name, code.Malformed, err, "call it as containerd does")
	}
	settings, err := config.Load(defaultConfig())
	if err != nil {
		return block(stdout, request.Name, code.GateDown, err, "correct gate.json")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(settings.Timeouts.Pull)+margin)
	defer cancel()
	v, err := wire.Call(ctx, settings.Socket, wire.Pull, request)
	if err != nil {
		c := code.GateDown
		if errors.Is(err, context.DeadlineExceeded) {
			c = code.Timeout
		}
		return block(stdout, request.Name, c, err, "start countersign-gate and look at its log")
	}
	if _, err := fmt.Fprintln(stdout, v.Message); err != nil || !v.Allow {
		return exitRefused
	}
	return exitOK
}

func pullRequest(args []string, stdin io.Reader) (wire.PullRequest, error) {
	var r wire.PullRequest
	var stdinType string
	flags := flag.NewFlagSet(verifierName, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&r.Name, "name", "", "")
	flags.StringVar(&r.Digest, "digest", "", "")
	flags.StringVar(&stdinType, "stdin-media-type", "", "")
	if err := flags.Parse(args); err != nil {
		return r, err
	}
	if r.Name == "" || r.Digest == "" || flags.NArg() > 0 {
		return r, errors.New("expected -name REF -digest DIGEST and no more")
	}
	content, err := io.ReadAll(io.LimitReader(stdin, maxDescriptor))
	if err != nil || stdinType != ocispec.MediaTypeDescriptor {
		return r, err
	}
	var descriptor ocispec.Descriptor
	if err := json.Unmarshal(content, &descriptor); err != nil {
		return r, fmt.Errorf("descriptor on stdin: %w", err)
	}
	if descriptor.Digest.String() != r.Digest {
		return r, fmt.Errorf("descriptor on stdin is for %q, -digest is %q", descriptor.Digest, r.Digest)
	}
	r.MediaType, r.Size = descriptor.MediaType, descriptor.Size
	return r, nil
}

func block(stdout io.Writer, name string, c code.Code, err error, do string) int {
	refusal := code.Refuse(c, err.Error(), "a verdict from the gate", do)
	fmt.Fprintln(stdout, clean.Line(fmt.Sprintf("countersign: refused %s: %v", name, refusal), maxReason))
	return exitRefused
}
