package prove

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// placed is a file that the runtime has to find while the canary is served, in a folder
// that has the registry's name and holds nothing else.
type placed struct {
	path    string
	content []byte
	made    []string // folders, the deepest first
}

// files gives those that a runtime needs: on CRI-O the CA, for it alone trusts no
// certificate of loopback; and a hosts.toml where one for all registries would send the
// canary's clients elsewhere.
func (p *proof) files(ca []byte) []*placed {
	var found []*placed
	if p.Gate.Crio != nil {
		found = append(found, &placed{path: filepath.Join(p.Certs, Registry, "ca.crt"), content: ca})
	}
	if dir := p.Gate.Registry.CertsDir; dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "_default")); err == nil {
			host := strings.Replace(Registry, ":", "_", 1) + "_" // containerd's form of HOST:PORT
			found = append(found, &placed{path: filepath.Join(dir, host, "hosts.toml"), content: []byte(hosts)})
		}
	}
	return found
}

// hosts leads to the registry itself.
const hosts = "server = \"https://" + Registry + "\"\nskip_verify = true\n"

// put writes the file, and remembers which folders it had to make.
func (f *placed) put() error {
	for dir := filepath.Dir(f.path); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		f.made = append(f.made, dir)
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(f.path, f.content, 0o644)
}

// takeBack removes the file, its folder, and the folders above that were made for it.
// One that was killed leaves no more than empty folders of that last kind.
func (f *placed) takeBack() error {
	var err error
	for _, path := range append([]string{f.path, filepath.Dir(f.path)}, f.made...) {
		if failed := os.Remove(path); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	f.made = nil
	return err
}
