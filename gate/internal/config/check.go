package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"countersign/gate/internal/policy"
)

// hookClient is the whole time that countersign-hook waits.
const hookClient = 5 * time.Second

// Bounds of the verdict log's rotation: a verdict has 100 KiB at most, and each
// rotation renames every file.
const (
	minLog  = 1 << 20
	maxLogs = 100
)

// minAudit is how often what runs is judged at most.
const minAudit = Duration(time.Minute)

// check says what of a configuration can't be meant.
func (c *Config) check() error {
	crio := c.Crio
	if crio == nil {
		crio = crioDefaults()
	}
	engine, noEngine := crio.Engine, crio.Engine == nil
	if noEngine {
		engine = &CrioEngine{}
	}
	providers := c.Registry.CredentialProviders
	noProviders := providers == nil
	if noProviders {
		providers = &CredentialProviders{}
	}
	for _, p := range []struct {
		key, path string
		optional  bool
	}{
		{"policy", c.Policy, false},
		{"socket", c.Socket, false},
		{"evidence.dir", c.Evidence.Dir, false},
		{"state", c.State, true},
		{"containerd.address", c.Containerd.Address, false},
		{"containerd.nri", c.Containerd.NRI, true},
		{"containerd.hook", c.Containerd.Hook, false},
		{"crio.root", crio.Root, false},
		{"crio.runRoot", crio.RunRoot, false},
		{"crio.socket", crio.Socket, false},
		{"crio.nri", crio.NRI, true},
		{"crio.hook", crio.Hook, false},
		{"crio.engine.policy", engine.Policy, noEngine},
		{"crio.engine.registriesD", engine.RegistriesD, noEngine},
		{"registry.certsDir", c.Registry.CertsDir, true},
		{"registry.dockerConfig", c.Registry.DockerConfig, true},
		{"registry.credentialProviders.config", providers.Config, noProviders},
		{"registry.credentialProviders.binDir", providers.BinDir, noProviders},
		{"log", c.Log, c.Log == "-" || c.Log == ""},
	} {
		if !filepath.IsAbs(p.path) && !(p.optional && (p.path == "" || p.path == "-")) {
			return fmt.Errorf("%s: %q is not an absolute path", p.key, p.path)
		}
	}
	if c.Containerd.Namespace == "" || len(c.Containerd.Snapshotters) == 0 {
		return errors.New("containerd: namespace and snapshotters can't be empty")
	}
	if c.Evidence.MaxBytes < 0 || c.Evidence.MaxEntries < 0 {
		return errors.New("evidence: maxBytes and maxEntries can't be negative")
	}
	if r := c.LogRotation; r.MaxBytes < minLog || r.Keep < 1 || r.Keep > maxLogs {
		return fmt.Errorf("logRotation: maxBytes must be %d at least, keep 1 to %d", minLog, maxLogs)
	}
	if every := c.Audit.Every; every < 0 || (every > 0 && every < minAudit) {
		return fmt.Errorf("audit.every: %s is under %s; 0s for never", time.Duration(every), time.Duration(minAudit))
	}
	if err := checkMetrics(c.Metrics); err != nil {
		return err
	}
	if c.PolicyKeys != nil {
		var err error
		if c.keys, err = policy.ParseKeys("policyKeys", c.PolicyKeys); err != nil {
			return err
		}
	}
	return c.Timeouts.check()
}

func checkMetrics(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("metrics: %q is not an absolute path", path)
		}
		return nil
	}
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("metrics: %q is neither unix:PATH nor a loopback ADDRESS:PORT", address)
	}
	return nil
}

func (t Timeouts) check() error {
	for _, d := range []struct {
		key   string
		value Duration
	}{{"runtime", t.Runtime}, {"registry", t.Registry}, {"verdict", t.Verdict}, {"pull", t.Pull}} {
		if d.value <= 0 {
			return fmt.Errorf("timeouts.%s: must be over 0", d.key)
		}
	}
	switch {
	case t.Verdict >= Duration(hookClient):
		return fmt.Errorf("timeouts.verdict: %s is not under the hook's own %s", time.Duration(t.Verdict), hookClient)
	case t.Runtime >= t.Verdict:
		return errors.New("timeouts.runtime: must be under timeouts.verdict")
	case t.Registry >= t.Verdict:
		return errors.New("timeouts.registry: must be under timeouts.verdict")
	case t.Registry >= t.Pull:
		return errors.New("timeouts.registry: must be under timeouts.pull")
	}
	return nil
}
