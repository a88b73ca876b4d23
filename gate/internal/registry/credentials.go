package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"countersign/gate/internal/code"
)

const maxDockerConfig = 1 << 20

// credentials are the logins of a Docker config.json, by host.
type credentials map[string]login

type login struct {
	user   string // "" beside a refresh token
	secret string
}

// dockerConfig is the part of Docker's config.json that holds logins. Credential
// helpers are not run: the gate executes nothing.
type dockerConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
}

// loadCredentials reads the config at path; none at all where path is "" or
// nothing is there. It returns a *code.Refusal with REGISTRY_AUTH, also where
// others than the owner may read the file.
func loadCredentials(path string) (credentials, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, badConfig(err.Error())
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, badConfig(err.Error())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, badConfig(fmt.Sprintf("%s has mode %#o: others may read the passwords", path, info.Mode().Perm()))
	}
	data, err := io.ReadAll(io.LimitReader(file, maxDockerConfig+1))
	if err != nil {
		return nil, badConfig(err.Error())
	}
	if len(data) > maxDockerConfig {
		return nil, badConfig(fmt.Sprintf("%s has more than %d bytes", path, maxDockerConfig))
	}
	logins, err := parseCredentials(data)
	if err != nil {
		return nil, badConfig(fmt.Sprintf("%s: %v", path, err))
	}
	return logins, nil
}

func parseCredentials(data []byte) (credentials, error) {
	var config dockerConfig
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, errors.New("it is no JSON of the known form") // err could quote a password
	}
	logins := credentials{}
	for key, entry := range config.Auths {
		l := login{user: entry.Username, secret: entry.Password}
		if entry.Auth != "" {
			text, err := base64.StdEncoding.DecodeString(entry.Auth)
			user, password, ok := strings.Cut(string(text), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("auths.%q.auth is no base64 of user:password", key)
			}
			l = login{user: user, secret: strings.TrimRight(password, "\x00")}
		}
		if entry.IdentityToken != "" {
			l = login{secret: entry.IdentityToken}
		}
		if l.secret != "" {
			logins[hostOf(key)] = l
		}
	}
	return logins, nil
}

// forHost gives the login for host, which is asked on behalf of registry: its
// own, or else the registry's, since hosts.toml names only hosts that stand for
// it (as containerd hands the kubelet's credentials to the hosts of a registry).
func (c credentials) forHost(host, registry string) (user, secret string) {
	for _, name := range []string{host, registry} {
		if l, ok := c[hostOf(name)]; ok {
			return l.user, l.secret
		}
	}
	return "", ""
}

// hostOf gives the host of a key of "auths", which may be a URL. Docker Hub has
// three names.
func hostOf(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, _, _ := strings.Cut(key, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

func badConfig(found string) *code.Refusal {
	return code.Refuse(code.RegistryAuth, found, "a Docker config.json with mode 0600",
		"correct the gate's Docker config")
}
