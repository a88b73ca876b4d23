package doctor

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"countersign/gate/internal/nri"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// What our programs say of themselves (debug/buildinfo).
const (
	gateProgram = "countersign/gate/cmd/countersign-gate"
	hookProgram = "countersign/gate/cmd/countersign-hook"

	reloadGate = "systemctl reload countersign-gate"
	writers    = 0o022 // group and others
)

// gateChecks are those that hold for either runtime.
func gateChecks() []Check {
	return []Check{
		{Name: "gate.answers", LooksAt: "the gate's socket", Wanted: "a gate that answers", look: gateAnswers},
		{Name: "gate.policy", LooksAt: "the policy in force, and the policy's file", Wanted: "one and the same policy", look: policyInForce},
		{Name: "gate.program", LooksAt: "the program that the gate's process runs, and the file at its path", Wanted: "one and the same program", look: gateRuns},
		{Name: "gate.hook", LooksAt: "the hook's program", Wanted: "countersign-hook, executable", look: hookIsOurs},
		{Name: "gate.files", LooksAt: "owner and mode of gate, hook, gate.json and policy", Wanted: "root's, and writable by root only", look: filesAreRoots},
		{Name: "gate.plugin", LooksAt: "the gate's connection to NRI", Wanted: nri.Connected, look: pluginConnected},
		{Name: "gate.expiry", LooksAt: "keys, certificates, logs and lists of revoked certificates that the policy's roots of trust rest on", Wanted: "all good for another 30 days, and keys at most a year old", look: nothingEnds, warns: true},
		{Name: "gate.record", LooksAt: "every file that set-up put on this node", Wanted: "as set-up put it there", look: recordProblems},
	}
}

// pingGate asks the gate how it is.
func (n *Node) pingGate() (*verdict.Verdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return wire.Call(ctx, n.settings.Socket, wire.Ping, nil)
}

// asked is the gate's answer, for checks that come after the one that it answers.
func (n *Node) asked() (*verdict.Verdict, error) {
	v, err := n.ping()
	if err != nil {
		return nil, after("gate.answers")
	}
	return v, nil
}

func gateAnswers(n *Node) ([]Finding, error) {
	v, err := n.ping()
	switch {
	case err == nil && v.Mode != "":
		return []Finding{{"the gate", v.Mode + ", not enforcing", "a gate that enforces", n.options.again("run countersign-gate serve instead of observe, with the hook in the runtime's configuration")}}, nil
	case err == nil, errors.Is(err, os.ErrPermission):
		return nil, err
	}
	return []Finding{{"the gate", fmt.Sprintf("without an answer (%v)", err), "a gate that answers", n.options.again("systemctl restart countersign-gate")}}, nil
}

func policyInForce(n *Node) ([]Finding, error) {
	v, err := n.asked()
	if err != nil {
		return nil, err
	}
	path := n.settings.Policy
	onDisk, found := "no policy that can be read", v.Policy
	if p, err := policy.Load(path); err == nil {
		onDisk = p.Hash
	}
	if found == onDisk {
		return nil, nil
	}
	if found == "" {
		found = "none: everything is refused"
	}
	wanted := fmt.Sprintf("%s, which lies in %s (a file that the gate cannot take leaves the old one in force)", onDisk, path)
	return []Finding{{"the policy in force", found, wanted, n.options.again("countersign-gate check-policy " + path)}}, nil
}

// gatePath is the path of the program that the gate's process was started from.
func (n *Node) gatePath(pid int) (string, error) {
	path, err := os.Readlink(n.program(pid))
	return strings.TrimSuffix(path, " (deleted)"), err
}

func gateRuns(n *Node) ([]Finding, error) {
	v, err := n.asked()
	if err != nil {
		return nil, err
	}
	if v.PID == 0 {
		return []Finding{{"the gate's process", "of a version that does not tell its number", "the program that lies on this node", n.options.again(reloadGate)}}, nil
	}
	path, err := n.gatePath(v.PID)
	if err != nil {
		return nil, err
	}
	running, err := sum(n.program(v.PID))
	if err != nil {
		return nil, err
	}
	there, err := sum(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var found []Finding
	where := fmt.Sprintf("the program that runs as %s (pid %d)", path, v.PID)
	if laid, recorded := n.record[path]; recorded && laid.SHA256 != running {
		found = append(found, Finding{where, "sha256:" + running, "sha256:" + laid.SHA256, n.options.again(reloadGate)})
	} else if running != there {
		found = append(found, Finding{where, "sha256:" + running, "the one that lies there, sha256:" + there, n.options.again(reloadGate)})
	}
	return append(found, n.isProgram(path, gateProgram)...), nil
}

func hookIsOurs(n *Node) ([]Finding, error) {
	return n.isProgram(n.hook(), hookProgram), nil
}

// hook is the path of the hook's program.
func (n *Node) hook() string {
	if c := n.settings.Crio; c != nil {
		return c.Hook
	}
	return n.settings.Containerd.Hook
}

// isProgram finds a file that is not the named program of ours, or can't be run.
func (n *Node) isProgram(path, wanted string) []Finding {
	mend := n.options.again("install " + filepath.Base(wanted) + " there again, mode 0755")
	info, err := os.Stat(path)
	if err != nil {
		return []Finding{{path, without(err), filepath.Base(wanted), mend}}
	}
	if !info.Mode().IsRegular() || info.Mode()&0o100 == 0 {
		return []Finding{{path, "not a program that can be run", filepath.Base(wanted), mend}}
	}
	if n.mainOf(path) != wanted {
		return []Finding{{path, "another program", filepath.Base(wanted), mend}}
	}
	return nil
}

// mainOf gives the package that a Go program was built from, or "".
func mainOf(path string) string {
	built, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	return built.Path
}

// without says in a word why a file can't be looked at.
func without(err error) string {
	if os.IsNotExist(err) {
		return "missing"
	}
	return err.Error()
}

func filesAreRoots(n *Node) ([]Finding, error) {
	paths := []string{n.hook(), n.options.Config, n.etc(), n.settings.Policy, filepath.Dir(n.settings.Policy)}
	if v, err := n.ping(); err == nil && v.PID != 0 {
		if path, err := n.gatePath(v.PID); err == nil {
			paths = append(paths, path)
		}
	}
	return n.writable(paths...), nil
}

// writable finds files that someone beside their proper owner can change; one that is
// missing is found where it is used.
func (n *Node) writable(paths ...string) []Finding {
	var found []Finding
	seen := map[string]bool{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || seen[path] {
			continue
		}
		seen[path] = true
		owner := int(info.Sys().(*syscall.Stat_t).Uid)
		if owner != n.owner || info.Mode().Perm()&writers != 0 {
			found = append(found, Finding{
				path, fmt.Sprintf("of user %d with mode %o", owner, info.Mode().Perm()), "root's, and writable by root only",
				fmt.Sprintf("chown root:root %s && chmod go-w %s", path, path),
			})
		}
	}
	return found
}

func pluginConnected(n *Node) ([]Finding, error) {
	if err := n.requiresPlugin(); err != nil {
		return nil, err
	}
	v, err := n.asked()
	if err != nil {
		return nil, err
	}
	state := v.NRI
	if state == "" {
		state = "unknown"
	}
	if state == nri.Connected {
		return nil, nil
	}
	mend := "read the gate's log (journalctl -u countersign-gate), and look at the runtime's settings for NRI"
	socket, own := n.settings.Containerd.NRI, n.settings.Containerd.Address
	if c := n.settings.Crio; c != nil {
		socket, own = c.NRI, c.Socket
	}
	if err := n.servesNRI(socket, own); err != nil {
		state, mend = err.Error(), "have each runtime listen on an NRI socket of its own (nri_listen of CRI-O, socket_path of containerd), and run set-up again"
	}
	if state == nri.Off {
		mend = n.options.again("name NRI's socket as nri in " + n.options.Config + ", then " + reloadGate)
	}
	return []Finding{{"the gate's connection to NRI", state, nri.Connected, mend}}, nil
}

// requiresPlugin says why no plugin can be required of this runtime.
func (n *Node) requiresPlugin() error {
	if n.settings.Crio != nil {
		return nil
	}
	c, err := n.containerdAsked()
	if err != nil {
		return err
	}
	if c.version.before(nriSince) {
		return skipped(fmt.Sprintf("containerd %s can't require a plugin, which takes %s", c.version, nriSince))
	}
	return nil
}
