package install

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// The gate's unit, as set-up from another machine has it too.
var (
	//go:embed units/countersign-gate.service
	unitFile []byte
	//go:embed units/without-sys-resource.conf
	withoutResource []byte
)

const (
	// unitTime bounds one call of systemctl.
	unitTime = 2 * time.Minute
	// handedOver is more than the gate gives its successor (15 s) and then itself (6 s).
	handedOver = 25 * time.Second
	lastLines  = "15"
)

// systemctl runs systemctl, and gives what it printed.
func systemctl(ctx context.Context, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, unitTime)
	defer cancel()
	command := exec.CommandContext(ctx, "systemctl", arguments...)
	var out, told bytes.Buffer
	command.Stdout, command.Stderr = &out, &told
	err := command.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("there is no systemctl: a node is put under enforcement by systemd units")
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return out.String(), fmt.Errorf("systemctl %s did not end within %s", strings.Join(arguments, " "), unitTime)
	}
	if err != nil {
		return out.String(), fmt.Errorf("systemctl %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(told.String()))
	}
	return out.String(), nil
}

// mainPID gives the main process of a unit that is active, or 0.
func (n *node) mainPID(ctx context.Context) (int, error) {
	shown, err := n.systemctl(ctx, "show", "--property=ActiveState,MainPID", "--", unit)
	if err != nil {
		return 0, err
	}
	active, pid := false, 0
	for line := range strings.Lines(shown) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ActiveState":
			active = value == "active"
		case "MainPID":
			pid, _ = strconv.Atoi(value) // 0 for what is not a number
		}
	}
	if !active {
		pid = 0
	}
	return pid, nil
}

// startGate has the unit run by what lies there now: a gate that runs hands over without
// a gap.
func (n *node) startGate(ctx context.Context) error {
	before, err := n.mainPID(ctx)
	if err != nil {
		return err
	}
	if _, err := n.systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	if _, err := n.systemctl(ctx, "enable", "--quiet", "--", unit); err != nil {
		return err
	}
	if before != 0 {
		if _, err := n.systemctl(ctx, "reload", "--", unit); err == nil && n.replaced(ctx, before) {
			return nil
		}
	}
	if _, err := n.systemctl(ctx, "restart", "--", unit); err != nil {
		return didNotStart(ctx, unit, err)
	}
	return nil
}

// didNotStart gives the error of a unit that did not start, with what it said last.
func didNotStart(ctx context.Context, unit string, err error) error {
	journal, _ := exec.CommandContext(ctx, "journalctl", "--unit="+unit, "--lines="+lastLines, "--output=cat", "--no-pager").Output()
	return fmt.Errorf("%s did not start: %w: %s", unit, err, strings.TrimSpace(string(journal)))
}

// replaced waits until another process is the unit's.
func (n *node) replaced(ctx context.Context, before int) bool {
	for deadline := time.Now().Add(handedOver); time.Now().Before(deadline); time.Sleep(pause) {
		if now, err := n.mainPID(ctx); err == nil && now != 0 && now != before {
			return true
		}
	}
	return false
}
