package provider

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	configVersion = "kubelet.config.k8s.io/v1"
	configKind    = "CredentialProviderConfig"
	apiVersion    = "credentialprovider.kubelet.k8s.io/v1"

	maxConfig    = 1 << 20
	maxProviders = 64
)

// document is a CredentialProviderConfig (kubelet.config.k8s.io/v1).
type document struct {
	APIVersion string     `yaml:"apiVersion"`
	Kind       string     `yaml:"kind"`
	Providers  []settings `yaml:"providers"`
}

// settings are one provider's.
type settings struct {
	Name                 string     `yaml:"name"`
	MatchImages          []string   `yaml:"matchImages"`
	DefaultCacheDuration *duration  `yaml:"defaultCacheDuration"`
	APIVersion           string     `yaml:"apiVersion"`
	Args                 []string   `yaml:"args"`
	Env                  []variable `yaml:"env"`
	TokenAttributes      any        `yaml:"tokenAttributes"` // nil for none
}

type variable struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

// duration is written as in "10m".
type duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := time.ParseDuration(node.Value)
	*d = duration(parsed)
	return err
}

// readSettings reads the file at path, or all .json, .yaml and .yml files of the
// folder there, in the order of their names, as the kubelet does. Files that others
// than root could write are refused, since they say what is run. No error quotes
// what is in a file, for env may have secrets.
func readSettings(path string) ([]settings, error) {
	files, err := configFiles(path)
	if err != nil {
		return nil, err
	}
	var all []settings
	for _, file := range files {
		content, err := readOwned(file)
		if err != nil {
			return nil, err
		}
		providers, err := parseSettings(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, providers...)
	}
	if len(all) > maxProviders {
		return nil, fmt.Errorf("%s: over %d providers", path, maxProviders)
	}
	for i, s := range all {
		if slices.ContainsFunc(all[:i], func(other settings) bool { return other.Name == s.Name }) {
			return nil, fmt.Errorf("%s: two providers are called %q", path, s.Name)
		}
	}
	return all, nil
}

func configFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path) // in the order of their names
	var files []string
	for _, entry := range entries {
		if !entry.IsDir() && slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(entry.Name())) {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no .json, .yaml or .yml file", path)
	}
	return files, err
}

func readOwned(path string) ([]byte, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if err := checkOwned(resolved); err != nil {
		return nil, err
	}
	file, err := os.Open(resolved)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err == nil && len(content) > maxConfig {
		err = fmt.Errorf("%s: over %d bytes", path, maxConfig)
	}
	return content, err
}

func parseSettings(content []byte) ([]settings, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var d document
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("it is not a %s with the fields of %s", configKind, configVersion)
	}
	if d.APIVersion != configVersion || d.Kind != configKind {
		return nil, fmt.Errorf("it is %.80q of %.80q, expected %s of %s", d.Kind, d.APIVersion, configKind, configVersion)
	}
	for i, s := range d.Providers {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("providers[%d] %.80q: %w", i, s.Name, err)
		}
	}
	return d.Providers, nil
}

func (s *settings) check() error {
	switch {
	case s.Name == "" || s.Name == "." || s.Name == ".." || strings.ContainsAny(s.Name, "/ \x00"):
		return errors.New("name: it is not the name of a file")
	case s.APIVersion != apiVersion:
		return fmt.Errorf("apiVersion: %.80q is not %s", s.APIVersion, apiVersion)
	case len(s.MatchImages) == 0:
		return errors.New("matchImages: there are none")
	case s.DefaultCacheDuration == nil || *s.DefaultCacheDuration < 0:
		return errors.New("defaultCacheDuration: it is missing, or negative")
	}
	for _, pattern := range s.MatchImages {
		if _, _, _, ok := parts(pattern); !ok {
			return fmt.Errorf("matchImages: %.80q cannot be read", pattern)
		}
	}
	for _, v := range s.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.Contains(v.Value, "\x00") {
			return fmt.Errorf("env: %.80q cannot be a variable", v.Name)
		}
	}
	if slices.ContainsFunc(s.Args, func(arg string) bool { return strings.Contains(arg, "\x00") }) {
		return errors.New("args: a zero byte")
	}
	return nil
}

// lifetime is how long an answer counts that does not say so itself.
func (s *settings) lifetime() time.Duration { return time.Duration(*s.DefaultCacheDuration) }

// identity tells a provider, as it is set now, from any other. It is a hash, since
// env may have secrets.
func (s *settings) identity() string {
	content, _ := json.Marshal([]any{s.Name, s.APIVersion, s.Args, s.Env, s.DefaultCacheDuration}) // of strings and a number
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
