package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"countersign/gate/internal/prove"
)

// nodeKey is the node's own key, beside gate.json.
const nodeKey = "node.key"

// proving is what "prove" takes.
type proving struct {
	image, cgroupParent string // what is tried
	socket, certs       string // of CRI-O
	receipt, nodeKey    string // where the receipt goes, and who signs it
	verify, key         string // a receipt to look at instead
}

func (p *proving) flags(flags *flag.FlagSet) {
	flags.StringVar(&p.image, "image", "", "`IMAGE` that the policy has to allow; without it, one that is there is tried")
	flags.StringVar(&p.receipt, "receipt", "", "write the receipt to `FILE`, in a DSSE envelope if there is a node key")
	flags.StringVar(&p.nodeKey, "node-key", "", "private key `FILE`, PEM, to sign the receipt with (default "+nodeKey+" beside gate.json, if it is there)")
	flags.StringVar(&p.cgroupParent, "cgroup-parent", "", "`CGROUP` of the pods that are tried (default: one that fits the runtime's cgroup driver)")
	flags.StringVar(&p.socket, "crio-socket", "", "CRI-O's `SOCKET` (default crio.socket of gate.json)")
	flags.StringVar(&p.certs, "crio-certs", prove.CrioCerts, "`DIR` in which CRI-O finds the CAs of registries")
	flags.StringVar(&p.verify, "verify-receipt", "", "try nothing: verify the signed receipt in `FILE` and show it")
	flags.StringVar(&p.key, "key", "", "with --verify-receipt: public key `FILE` of the node, PEM")
}

// runProve exits 0 where the proof holds, and 1 where it does not.
func runProve(c *invocation) int {
	if c.proof.verify != "" || c.proof.key != "" {
		return verifyReceipt(c)
	}
	settings, err := c.settings()
	if err != nil {
		return c.misused(err)
	}
	if settings.Crio != nil && c.proof.socket != "" {
		settings.Crio.Socket = c.proof.socket
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	receipt, err := prove.Run(ctx, prove.Config{
		Gate: settings, Version: version(), Image: c.proof.image, CgroupParent: c.proof.cgroupParent, Certs: c.proof.certs,
	})
	if err != nil {
		return c.fail(err)
	}
	if err := c.keep(receipt); err != nil {
		return c.fail(err)
	}
	return c.showReceipt(receipt)
}

// keep writes the receipt where it was asked for, signed where the node has a key.
func (c *invocation) keep(receipt *prove.Receipt) error {
	if c.proof.receipt == "" {
		return nil
	}
	key, named := c.proof.nodeKey, c.proof.nodeKey != ""
	if !named {
		key = filepath.Join(filepath.Dir(c.configPath), nodeKey)
	}
	content, err := receipt.Sign(key)
	if errors.Is(err, fs.ErrNotExist) && !named {
		content, err = receipt.Plain()
	}
	if err != nil {
		return err
	}
	return prove.Write(c.proof.receipt, append(content, '\n'))
}

func verifyReceipt(c *invocation) int {
	if c.proof.verify == "" || c.proof.key == "" {
		return c.misused(errors.New("--verify-receipt and --key go together"))
	}
	receipt, err := prove.Open(c.proof.verify, c.proof.key)
	if errors.Is(err, prove.ErrNotSigned) {
		return c.end(exitRefused, err)
	}
	if err != nil {
		return c.misused(err)
	}
	return c.showReceipt(receipt)
}

func (c *invocation) showReceipt(receipt *prove.Receipt) int {
	var err error
	if c.json {
		err = c.document(receipt)
	} else {
		err = writeReceipt(c.stdout, receipt)
	}
	switch {
	case err != nil:
		return c.fail(err)
	case receipt.Holds():
		return exitOK
	}
	return exitRefused
}

// writeReceipt prints a line for each thing that was tried, and what it comes to.
func writeReceipt(w io.Writer, r *prove.Receipt) error {
	var b strings.Builder
	for _, one := range r.Refused {
		fmt.Fprintf(&b, "✓ %s: the canary is refused by %s: %s\n", at(one.Layer, one.Handler), one.By, one.Reason)
	}
	for _, one := range r.Allowed {
		fmt.Fprintf(&b, "✓ %s: %s is allowed (%s)\n", at(one.Layer, one.Handler), one.Image, one.Rule)
	}
	for _, one := range r.Problems {
		fmt.Fprintf(&b, "✗ %s: %s; expected %s\n", one.Where, one.Found, one.Expected)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "! %s\n", note)
	}
	word := "proven"
	if !r.Holds() {
		word = "NOT PROVEN"
	}
	fmt.Fprintf(&b, "%s: %s, %s %s, policy %s, %s, %d ms\n", word, r.Node, r.Runtime.Name, r.Runtime.Version, r.Policy.Hash,
		r.Started.Format("2006-01-02T15:04:05Z"), r.Millis)
	_, err := io.WriteString(w, b.String())
	return err
}

func at(layer, handler string) string {
	if handler == "" {
		return layer
	}
	return layer + " under " + handler
}
