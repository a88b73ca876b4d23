package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
)

const maxDockerConfig = 1 << 20

// credentials are the logins of a file in the form that Docker's config.json and
// containers-auth.json(5) share.
type credentials struct {
	path    string
	logins  map[string]login // by host, or host and path
	helpers map[string]string
	store   string // the helper for what has none of its own; "" for none
}

// forbidden gives the permissions that a file of that owner must not have. A process
// that neither owns it nor is root reads it by its group alone, as Kubernetes has it
// read a secret.
func forbidden(owner, reader int) os.FileMode {
	if reader != 0 && owner != reader {
		return 0o037
	}
	return 0o077
}

// owner gives the user who owns a file; root where that is not known.
func owner(info os.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return 0
}

// loadCredentials reads the file at path; none at all where path is "" or nothing
// is there. It returns a *code.Refusal with REGISTRY_AUTH if nothing in it can be
// read, also where others than the owner may read it. An entry that cannot be
// read is an error of that entry only.
func loadCredentials(path string) (credentials, error) {
	if path == "" {
		return credentials{}, nil
	}
	file, err := bounded.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return credentials{}, nil
	}
	if err != nil {
		return credentials{}, badConfig(err.Error())
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return credentials{}, badConfig(err.Error())
	}
	if info.Mode().Perm()&forbidden(owner(info), os.Geteuid()) != 0 {
		return credentials{}, badConfig(fmt.Sprintf("%s has mode %#o: others may read the passwords", path, info.Mode().Perm()))
	}
	data, err := io.ReadAll(io.LimitReader(file, maxDockerConfig+1))
	if err != nil {
		return credentials{}, badConfig(err.Error())
	}
	if len(data) > maxDockerConfig {
		return credentials{}, badConfig(fmt.Sprintf("%s has more than %d bytes", path, maxDockerConfig))
	}
	c, err := parseCredentials(data)
	if err != nil {
		return credentials{}, badConfig(fmt.Sprintf("%s: %v", path, err))
	}
	c.path = path
	return c, nil
}

func parseCredentials(data []byte) (credentials, error) {
	var config struct {
		Auths       map[string]json.RawMessage `json:"auths"`
		CredHelpers map[string]json.RawMessage `json:"credHelpers"`
		CredsStore  json.RawMessage            `json:"credsStore"`
	}
	if len(bytes.TrimSpace(data)) == 0 { // as docker and containers/image have it: nobody is logged in
		data = []byte("{}")
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return credentials{}, errors.New("it is not JSON of the known form") // err could quote a password
	}
	c := credentials{logins: map[string]login{}, helpers: map[string]string{}, store: text(config.CredsStore)}
	for name, raw := range config.Auths {
		key, l := normalKey(name), readLogin(name, raw)
		if other, ok := c.logins[key]; !ok || l.before(other) {
			c.logins[key] = l
		}
	}
	for name, helper := range config.CredHelpers {
		c.helpers[normalKey(name)] = text(helper)
	}
	return c, nil
}

// text gives a JSON string, or "" for anything else.
func text(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// find gives the login under the longest key that leads to repository, which is
// host/path (containers-auth.json(5)), and ok if there is an entry.
func (c credentials) find(repository string) (login, bool) {
	for _, key := range keysFor(repository) {
		if l, ok := c.logins[key]; ok {
			return l, true
		}
	}
	return login{}, false
}

// forHost gives the login for a repository at a host that is asked on behalf of
// the registry of image: the host's own, or else that of the image's repository,
// since hosts.toml names only hosts that stand for its registry (as containerd
// hands the kubelet's credentials to the hosts of a registry).
func (c credentials) forHost(atHost, image string) login {
	for _, repository := range []string{atHost, image} {
		if l, ok := c.find(repository); ok && (!l.empty() || repository == image) {
			return l
		}
	}
	return login{}
}

// hint says why there is no login for any of these repositories although the
// file knows of one: it is kept by a program that the gate does not run. Or "".
func (c credentials) hint(repositories ...string) string {
	for _, repository := range repositories {
		if l, ok := c.find(repository); ok && !l.empty() {
			return ""
		}
	}
	for _, repository := range repositories {
		for _, key := range keysFor(repository) {
			if helper := c.helpers[key]; helper != "" {
				return c.notHere(key, helper)
			}
		}
		if l, ok := c.find(repository); ok && c.store != "" {
			return c.notHere(l.name, c.store)
		}
	}
	return ""
}

func (c credentials) notHere(key, helper string) string {
	return fmt.Sprintf("%s leaves the login for %q to the credential helper %q, which the gate does not run: it is not to be had on this node",
		c.path, key, helper)
}

// keysFor gives the keys that lead to a repository, the longest first.
func keysFor(repository string) []string {
	repository = normalKey(repository)
	keys := []string{repository}
	for i := len(repository) - 1; i > 0; i-- {
		if repository[i] == '/' {
			keys = append(keys, repository[:i])
		}
	}
	return keys
}

// normalKey gives a key of "auths" as host or host/path. One that is a URL, as
// Docker writes them, means its host. Docker Hub has several names.
func normalKey(key string) string {
	bare := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(bare, "/")
	if slices.Contains([]string{"index.docker.io", "registry-1.docker.io"}, host) {
		host = "docker.io"
	}
	path = strings.TrimRight(path, "/")
	if bare != key || path == "" || strings.HasSuffix(bare, "/") && (path == "v1" || path == "v2") {
		return host
	}
	return host + "/" + path
}

func badConfig(found string) *code.Refusal {
	return code.Refuse(code.RegistryAuth, found, "a Docker config.json with mode 0600",
		"correct the gate's Docker config")
}
