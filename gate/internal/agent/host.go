package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"countersign/gate/internal/doctor"
	"countersign/gate/internal/prove"
	"countersign/gate/internal/verdict"
)

const (
	// gate is the node's own program, which install put there.
	gate = "/usr/local/bin/countersign-gate"
	// patience bounds one call; a proof has 90 s of its own, and 20 to take back.
	patience  = 2 * time.Minute
	maxOutput = 4 << 20
)

// Below is the node whose root is mounted at a folder; "" for the agent's own.
type Below string

// Doctor implements Host. What is open makes its exit code 1, and is an answer.
func (b Below) Doctor(ctx context.Context) (*doctor.Report, error) {
	var report doctor.Report
	return &report, b.document(ctx, &report, nil, "doctor", "--json", "--setup", "countersign-gate install")
}

// Prove implements Host. A proof that does not hold has a receipt as well.
func (b Below) Prove(ctx context.Context) (*prove.Receipt, error) {
	var receipt prove.Receipt
	return &receipt, b.document(ctx, &receipt, nil, "prove", "--json", "--receipt", "/var/lib/countersign/receipt.json")
}

// signatureFile is where a policy's signatures lie while the gate reads them.
const signatureFile = "/run/countersign/policy-next.sig"

// InstallPolicy implements Host.
func (b Below) InstallPolicy(ctx context.Context, p Policy) error {
	arguments := []string{"install-policy", "-", "--json"}
	if len(p.Signatures) > 0 {
		path := filepath.Join(string(b), signatureFile)
		if err := os.WriteFile(path, p.Signatures, 0o600); err != nil {
			return err
		}
		defer func() { _ = os.Remove(path) }() // the next one writes it anew
		arguments = append(arguments, "--signature", signatureFile)
	}
	var done struct {
		InForce bool `json:"inForce"`
	}
	if err := b.document(ctx, &done, p.Content, arguments...); err != nil {
		return err
	}
	if !done.InForce {
		return errors.New("it lies in place, and the gate does not decide by it")
	}
	return nil
}

// Uninstall implements Host.
func (b Below) Uninstall(ctx context.Context) error {
	var done struct{}
	return b.document(ctx, &done, nil, "uninstall", "--json")
}

// Installed says whether install brought this node under enforcement.
func (b Below) Installed() (bool, error) {
	_, err := os.Stat(filepath.Join(string(b), "/var/lib/countersign/installed.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Verify implements Host. A refusal is an answer.
func (b Below) Verify(ctx context.Context, image string) (*verdict.Verdict, error) {
	var answer verdict.Verdict
	return &answer, b.document(ctx, &answer, nil, "verify", "--json", "--", image)
}

// Node is one that the agent installs and observes as well.
type Node struct {
	Below
	*Observer
	installs func(ctx context.Context, p Policy) error
	log      tail
}

// NewNode gives the node below a folder, and how it is brought under enforcement. What its
// gate has refused so far is left alone.
func NewNode(root string, observer *Observer, installs func(ctx context.Context, p Policy) error) *Node {
	n := &Node{Below(root), observer, installs, tail{path: filepath.Join(root, "/var/log/countersign/verdicts.jsonl")}}
	n.log.end()
	return n
}

// Install implements Host.
func (n *Node) Install(ctx context.Context, p Policy) error { return n.installs(ctx, p) }

// Refused implements Host.
func (n *Node) Refused() ([]verdict.Verdict, error) { return n.log.next() }

// document has the node's gate answer with one.
func (b Below) document(ctx context.Context, into any, stdin []byte, arguments ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	command := exec.CommandContext(ctx, gate, arguments...)
	if b != "" {
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: string(b)}
	}
	command.Dir = "/"
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	command.Stdin = bytes.NewReader(stdin)
	var out, told bytes.Buffer
	command.Stdout, command.Stderr = &bound{to: &out, left: maxOutput}, &bound{to: &told, left: maxShown}
	command.WaitDelay = time.Second
	err := command.Run()
	if json.Unmarshal(out.Bytes(), into) == nil {
		return nil
	}
	if err == nil {
		err = errors.New("no JSON")
	}
	said := strings.TrimPrefix(strings.TrimSpace(told.String()), "error: ")
	return fmt.Errorf("countersign-gate %s: %w: %s", arguments[0], err, said)
}

// bound takes so many bytes, and drops the rest.
type bound struct {
	to   io.Writer
	left int
}

func (l *bound) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > l.left {
		p = p[:l.left]
	}
	l.left -= len(p)
	_, err := l.to.Write(p)
	return n, err
}
