package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/wire"
)

// installedVersion is the version of what "install-policy --json" prints.
const installedVersion = "countersign.policy-installed/v1"

// stdin stands for what is read from there.
const stdin = "-"

const (
	// takenUp is how long the running gate may take. It takes well under a second, and
	// a few where the policy's folder can't be watched.
	takenUp = 8 * time.Second
	// look is how long between two looks.
	look = 5 * time.Millisecond
)

// installing says how "install-policy" puts a policy in place.
type installing struct {
	signature string
	force     bool
	plan      bool
}

func (i *installing) flags(flags *flag.FlagSet) {
	flags.StringVar(&i.signature, "signature", "", "`FILE` with the policy's signatures, base64, one a line (default: FILE.sig where that is there)")
	flags.BoolVar(&i.force, "force", false, "also put a policy with an older serial in force; the gate logs it")
	flags.BoolVar(&i.plan, "plan", false, "only check, as this node would")
}

// installed is what "install-policy --json" prints.
type installed struct {
	Version string `json:"version"`
	Changed bool   `json:"changed"`
	Forced  bool   `json:"forced"`
	InForce bool   `json:"inForce"` // the running gate decides by it
	Hash    string `json:"hash"`
	Serial  int64  `json:"serial"`
	Before  int64  `json:"before"` // the highest serial until then
	Scopes  int    `json:"scopes"`
}

// installPolicy checks a rendered policy as this node's gate does, puts it in place,
// and returns once it is in force.
func installPolicy(c *invocation) int {
	settings, err := c.settings()
	if err != nil {
		return c.misused(err)
	}
	how, name := c.install, c.arguments[0]
	data, signatures, err := how.read(name)
	if err != nil {
		return c.misused(err)
	}
	done, err := settings.PolicyFile().Install(name, data, signatures, how.force, how.plan)
	if refusal := (*code.Refusal)(nil); errors.As(err, &refusal) {
		return c.end(exitRefused, refusal)
	} else if err != nil {
		return c.fail(err)
	}
	var failed error
	if !how.plan {
		failed = inForce(settings.Socket, done.Policy.Hash)
	}
	if err := c.showInstalled(done, failed == nil && !how.plan); err != nil {
		return c.fail(err)
	}
	if failed != nil {
		return c.fail(failed)
	}
	return exitOK
}

// read reads the policy and its signatures; without a file for them there may be none.
func (i *installing) read(name string) (data, signatures []byte, err error) {
	data, err = readFile(name, policy.MaxSize)
	path := i.signature
	if path == "" {
		path = name + policy.Signatures
	}
	if err != nil || path == stdin+policy.Signatures {
		return data, nil, err
	}
	signatures, err = bounded.File(path, policy.MaxSignatures)
	if i.signature == "" && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return data, signatures, err
}

// inForce waits until the gate decides by the policy of that hash.
func inForce(socket, hash string) error {
	for deadline := time.Now().Add(takenUp); ; time.Sleep(look) {
		ctx, cancel := context.WithTimeout(context.Background(), takenUp)
		v, err := wire.Call(ctx, socket, wire.Ping, nil)
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("it lies in place, and no gate answers that would decide by it: %w", err)
		case v.Policy == hash:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("it lies in place, and the gate decides by %s: %s", orNone(v.Policy), v.PolicyError)
		}
	}
}

func orNone(hash string) string {
	if hash == "" {
		return "no policy"
	}
	return hash
}

func (c *invocation) showInstalled(done policy.Installed, inForce bool) error {
	p := done.Policy
	if c.json {
		return c.document(installed{installedVersion, done.Changed, done.Forced, inForce, p.Hash, p.Serial, done.Before, len(p.Scopes())})
	}
	what := "unchanged"
	switch {
	case c.install.plan && (done.Changed || done.Forced):
		what = "would be installed"
	case done.Forced && p.Serial > done.Before:
		what = "installed by force: one of its lists of what is revoked is older, or the mark was damaged"
	case done.Forced:
		what = fmt.Sprintf("installed by force: serial %d was in force", done.Before)
	case done.Changed:
		what = "installed"
	}
	_, err := fmt.Fprintf(c.stdout, "%s: serial %d, %d scopes, %s\n", what, p.Serial, len(p.Scopes()), p.Hash)
	return err
}

// readFile reads a file of at most limit bytes, or stdin.
func readFile(name string, limit int64) ([]byte, error) {
	if name == stdin {
		return readAll(os.Stdin, limit)
	}
	return bounded.File(name, limit)
}

func readAll(file *os.File, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s: over %d bytes", file.Name(), limit)
	}
	return content, err
}
