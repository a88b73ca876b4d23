package containerspolicy

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"countersign/gate/internal/policy"
)

// Files are where the engine of a node reads its policy. It reads them anew at each pull
// and each container.
type Files struct {
	Policy      string // signature_policy of crio.conf(5)
	RegistriesD string // a file in registries.d
	Lenient     bool   // see Form
}

// maxSize bounds what lies there: a policy with its keys, each in base64 of PEM.
const maxSize = 4 * policy.MaxSize

// file is one of them.
type file struct {
	path    string
	content []byte
}

// rendered gives the files, the policy last: by it images of more registries have to be
// signed, and signatures are looked for where the other one says.
func (f Files) rendered(p *policy.Policy) ([]file, error) {
	rendered, err := Render(p, Form{Lenient: f.Lenient})
	return []file{{f.RegistriesD, rendered.RegistriesD}, {f.Policy, rendered.Policy}}, err
}

// Differs implements policy.Engine.
func (f Files) Differs(p *policy.Policy) (bool, error) {
	files, err := f.rendered(p)
	if err != nil {
		return false, err
	}
	for _, one := range files {
		there, err := read(one.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(there, one.content) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// Put implements policy.Engine.
func (f Files) Put(p *policy.Policy) (undo func() error, err error) {
	files, err := f.rendered(p)
	if err != nil {
		return nil, err
	}
	var back []func() error
	undo = func() error {
		var failed error
		for i := range back {
			failed = errors.Join(failed, back[len(back)-1-i]())
		}
		return failed
	}
	for _, one := range files {
		there, err := read(one.path)
		absent := errors.Is(err, fs.ErrNotExist)
		if err == nil || absent {
			err = policy.Replace(one.path, one.content, 0o644)
		}
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		back = append(back, func() error {
			if absent {
				return os.Remove(one.path)
			}
			return policy.Replace(one.path, there, 0o644)
		})
	}
	return undo, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxSize:
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", path, maxSize)
	}
	return os.ReadFile(path)
}
