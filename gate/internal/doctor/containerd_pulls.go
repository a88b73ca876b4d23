package doctor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func registryTables(n *Node, c *containerdFacts) ([]Finding, error) {
	var found []Finding
	for _, key := range []string{"mirrors", "configs", "auths"} {
		if len(c.config.table("plugins", criImages, "registry", key)) > 0 {
			mend := fmt.Sprintf("move [plugins.'%s'.registry.%s] of %s into hosts.toml files below config_path, then: %s", criImages, key, c.file, n.restart(c.unit, "containerd"))
			found = append(found, Finding{criImages + ".registry." + key, "set", "empty (config_path has a hosts.toml for each registry)", mend})
		}
	}
	return found, nil
}

func sandboxPinned(n *Node, c *containerdFacts) ([]Finding, error) {
	sandbox, _ := c.config.at("plugins", criImages, "pinned_images", "sandbox").(string)
	return n.sandboxProblems(criImages+".pinned_images.sandbox", sandbox, n.set(c, []string{criImages, "pinned_images"}, "sandbox", `"REPOSITORY@sha256:…"`))
}

func verifierAsked(n *Node, c *containerdFacts) ([]Finding, error) {
	folder, _ := c.config.at("plugins", verifiers, "bin_dir").(string)
	mend := n.options.again(fmt.Sprintf("ln -s $(command -v countersign-gate) %s", filepath.Join(folder, verifierName)))
	names, err := os.ReadDir(folder) // in the order in which containerd takes them
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	at := slices.IndexFunc(names, func(entry os.DirEntry) bool { return entry.Name() == verifierName })
	if at < 0 {
		return []Finding{{verifiers + ".bin_dir", fmt.Sprintf("%q, without our verifier", folder), "a folder with " + verifierName, mend}}, nil
	}
	var found []Finding
	if most, _ := c.config.at("plugins", verifiers, "max_verifiers").(int64); most >= 0 && most <= int64(at) {
		wanted := fmt.Sprintf("more than %d", at)
		found = append(found, Finding{verifiers + ".max_verifiers", fmt.Sprint(most), wanted, n.set(c, []string{verifiers}, "max_verifiers", fmt.Sprint(at+1))})
	}
	path, err := filepath.EvalSymlinks(filepath.Join(folder, verifierName))
	if err != nil {
		path = filepath.Join(folder, verifierName)
	}
	found = append(found, n.isProgram(path, gateProgram)...)
	return append(found, n.writable(folder, path)...), nil
}

func verifierHasTime(n *Node, c *containerdFacts) ([]Finding, error) {
	text, _ := c.config.at("plugins", verifiers, "per_verifier_timeout").(string)
	pull := time.Duration(n.settings.Timeouts.Pull)
	if deadline, _ := time.ParseDuration(text); deadline > pull { // what is not one is 0
		return nil, nil
	}
	return []Finding{{verifiers + ".per_verifier_timeout", shown(text), fmt.Sprintf("more than %s", pull), n.set(c, []string{verifiers}, "per_verifier_timeout", shown((pull + 10*time.Second).String()))}}, nil
}

func pullsVerified(n *Node) ([]Finding, error) {
	log, err := n.log()
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	if !fellBack(io.LimitReader(log, maxLog)) {
		return nil, nil
	}
	return []Finding{{"containerd's log", "saying “" + fallback + "”", "no such line", n.options.again("fix the setting that it names, and restart containerd")}}, nil
}

// fellBack says whether containerd has left the verified path since the last start
// that a log tells of.
func fellBack(log io.Reader) bool {
	lines := bufio.NewReader(log)
	fell := false
	for {
		line, _, err := lines.ReadLine() // a long one in parts, of which the first counts
		if err != nil {
			return fell
		}
		switch text := string(line); {
		case strings.Contains(text, "starting containerd"):
			fell = false
		case strings.Contains(text, fallback):
			fell = true
		}
	}
}
