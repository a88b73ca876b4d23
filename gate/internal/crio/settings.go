package crio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"
)

const (
	maxSettings = 4 << 20
	patience    = 10 * time.Second
)

// Settings are those of a CRI-O that runs, as far as the gate asks for them.
type Settings struct {
	Root     string   // containers/storage's root
	RunRoot  string   // and its run root
	HooksDir []string // folders of hooks (oci-hooks(5)), the last one counts
	NRI      string   // NRI's socket
}

// Configuration has the CRI-O at a socket tell the configuration that it runs by, as TOML,
// as "crio status config" does: it serves GET /config beside CRI.
func Configuration(ctx context.Context, socket string) ([]byte, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://crio/config", nil)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxSettings))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", response.Status)
	}
	return content, err
}

// Inspect gives the settings of the CRI-O at a socket.
func Inspect(ctx context.Context, socket string) (*Settings, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	content, err := Configuration(ctx, socket)
	var document struct {
		Crio struct {
			Root    string `toml:"root"`
			RunRoot string `toml:"runroot"`
			Runtime struct {
				HooksDir []string `toml:"hooks_dir"`
			} `toml:"runtime"`
			NRI struct {
				Listen string `toml:"nri_listen"`
			} `toml:"nri"`
		} `toml:"crio"`
	}
	if err == nil {
		err = toml.Unmarshal(content, &document)
	}
	if err != nil {
		return nil, fmt.Errorf("CRI-O at %s: its configuration can't be read: %w", socket, err)
	}
	s := &Settings{Root: document.Crio.Root, RunRoot: document.Crio.RunRoot, HooksDir: document.Crio.Runtime.HooksDir, NRI: document.Crio.NRI.Listen}
	if !filepath.IsAbs(s.Root) || !filepath.IsAbs(s.RunRoot) {
		return nil, fmt.Errorf("CRI-O at %s: its configuration has root %q and runroot %q, expected paths", socket, s.Root, s.RunRoot)
	}
	return s, nil
}

// Hooked gives the files in the folders of hooks whose program is ours. A file that
// cannot be read may have it: that is an error.
func (s *Settings) Hooked(ours func(program string) bool) ([]string, error) {
	var found []string
	for _, folder := range s.HooksDir {
		entries, err := os.ReadDir(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			path := filepath.Join(folder, entry.Name())
			if filepath.Ext(path) != ".json" {
				continue
			}
			content, err := readPath(path, maxSettings)
			if err != nil {
				return nil, err
			}
			var document struct {
				Hook struct {
					Path string `json:"path"`
				} `json:"hook"`
			}
			if err := json.Unmarshal(content, &document); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			if ours(document.Hook.Path) {
				found = append(found, path)
			}
		}
	}
	return found, nil
}
