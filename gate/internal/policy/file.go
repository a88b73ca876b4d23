package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
)

// File is a node's policy, and what has to hold of it before it counts.
type File struct {
	Path string   // the rendered policy; its signatures lie in Path.sig
	Keys []Key    // one of them must have signed it; none: no signature is asked for
	Mark string   // the file that remembers the highest serial that was in force
	Pins []string // what this node itself needs, repository@digest, beside the policy's own pins

	// Engine is one of the runtime's own that has each policy in a form of its own; nil for none.
	Engine Engine
}

// Engine has each policy in a form of its own, written before the policy comes into force.
type Engine interface {
	Differs(p *Policy) (bool, error)
	// Put writes it. What it wrote over is put back by undo.
	Put(p *Policy) (undo func() error, err error)
}

// Refused says why a policy that is valid in itself does not come into force here.
type Refused struct {
	*code.Refusal
	Result string // one word, for metrics: older, unsigned, unremembered
}

// Unwrap implements errors.Unwrap.
func (r *Refused) Unwrap() error { return r.Refusal }

// The results of Refused.
const (
	older        = "older"
	unsigned     = "unsigned"
	unremembered = "unremembered"
)

func refused(result, found, expected, do string) *Refused {
	return &Refused{invalid(found, expected, do), result}
}

// Load reads the policy and checks all that has to hold of it. It returns an error
// with POLICY_INVALID. It remembers nothing.
func (f File) Load() (*Policy, error) {
	// Before the signatures: Install writes those of both policies first.
	data, err := bounded.File(f.Path, MaxSize)
	if err != nil {
		return nil, invalid(err.Error(), "a readable policy file", "render the policy to this node again")
	}
	signatures, err := f.signatures()
	if err != nil {
		return nil, err
	}
	p, err := f.check(f.Path, data, signatures)
	if err != nil {
		return nil, err
	}
	m, err := readMark(f.Mark)
	if err != nil {
		return nil, err
	}
	return p, m.admits(p)
}

func (f File) signatures() ([]byte, error) {
	signatures, err := bounded.File(f.Path+Signatures, MaxSignatures)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return signatures, nil
	}
	if len(f.Keys) == 0 {
		return nil, nil // nobody asks for them
	}
	return nil, refused(unsigned, err.Error(), "readable signatures", signRemedy)
}

// Read gives the policy that lies there with this node's own pins, whoever signed it
// and whatever its serial: for those who look, not for a gate.
func (f File) Read() (*Policy, error) {
	p, err := Load(f.Path)
	if err != nil {
		return nil, err
	}
	return p, f.pin(p)
}

// pin adds this node's own pins.
func (f File) pin(p *Policy) error { return addPins(p, "pinned of gate.json", f.Pins) }

// check parses data, found at path, and checks its signature where one is asked for.
func (f File) check(path string, data, signatures []byte) (*Policy, error) {
	p, err := ParseFile(path, data)
	if err == nil {
		err = f.pin(p)
	}
	if err != nil || len(f.Keys) == 0 || len(signedBy(f.Keys, data, signatures)) > 0 {
		return p, err
	}
	return nil, refused(unsigned, fmt.Sprintf("%s: no signature by a key of policyKeys", path),
		"a signature of these very bytes in "+f.Path+Signatures, signRemedy)
}

// Remember is called before p comes into force. From then on no older policy does, and
// none with an older list.
// It gives the serial before, and whether p is older and was forced.
func (f File) Remember(p *Policy) (before int64, forced bool, err error) {
	m, err := readMark(f.Mark)
	if err != nil {
		return 0, false, err
	}
	if err := m.admits(p); err != nil {
		return m.Serial, false, err
	}
	forced = p.Hash == m.Forced
	next := Mark{Serial: m.Serial, Hash: m.Hash, Lists: m.with(p.Lists)}
	if forced || p.Serial > m.Serial {
		next.Serial, next.Hash = p.Serial, p.Hash
	}
	if !forced && next.Serial == m.Serial && maps.Equal(next.Lists, m.Lists) {
		return m.Serial, false, nil
	}
	return m.Serial, forced, writeMark(f.Mark, next)
}

// Installed says what Install did, or would do.
type Installed struct {
	Policy  *Policy
	Before  int64 // the highest serial so far
	Changed bool  // the file or its signatures are others
	Forced  bool  // it is older than Before, or one of its lists is
}

// Install puts a policy in place for the gate to take up, with its signatures. Where
// plan is set it only checks. An older one goes in with force alone.
func (f File) Install(name string, data, signatures []byte, force, plan bool) (Installed, error) {
	p, err := f.check(name, data, signatures)
	if err != nil {
		return Installed{}, err
	}
	unlock, err := f.lock(plan)
	if err != nil {
		return Installed{}, err
	}
	defer unlock()
	m, err := readMark(f.Mark)
	var damaged *Refused
	if err != nil && !(force && errors.As(err, &damaged)) {
		return Installed{}, err
	}
	done := Installed{Policy: p, Before: m.Serial}
	if refusal := cmp.Or(err, m.admits(p)); refusal != nil {
		if !force {
			return done, refusal
		}
		done.Forced = true
	}
	there, readErr := os.ReadFile(f.Path)
	old, _ := bounded.File(f.Path+Signatures, MaxSignatures) // what can't be read is written anew
	kept := lines(old)
	done.Changed = readErr != nil || !bytes.Equal(there, data) || !sameLines(lines(signatures), kept)
	if f.Engine != nil {
		differs, err := f.Engine.Differs(p)
		if err != nil {
			return done, err
		}
		done.Changed = done.Changed || differs
	}
	if plan || !(done.Changed || done.Forced) {
		return done, nil
	}
	if done.Forced {
		m.Forced = p.Hash
		if err := writeMark(f.Mark, m); err != nil {
			return done, err
		}
	}
	if f.Engine == nil {
		return done, f.put(data, signatures, there, old)
	}
	undo, err := f.Engine.Put(p)
	if err == nil {
		if err = f.put(data, signatures, there, old); err != nil {
			err = errors.Join(err, undo())
		}
	}
	return done, err
}

// put writes the signatures first, beside those of the policy that lies there: at
// every moment, and after a crash, the policy has its own.
func (f File) put(data, signatures, there, old []byte) error {
	path := f.Path + Signatures
	all := lines(signatures)
	if !bytes.Equal(there, data) {
		all = append(all, signedBy(f.Keys, there, old)...)
	}
	if len(all) > 0 {
		if err := Replace(path, bytes.Join(append(all, nil), []byte("\n")), 0o644); err != nil {
			return err
		}
	}
	if err := Replace(f.Path, data, 0o644); err != nil {
		return err
	}
	if len(all) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// lock has one install at a time. A plan, which changes nothing, makes no file.
func (f File) lock(plan bool) (unlock func(), err error) {
	if plan {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Dir(f.Mark), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(f.Mark+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// Replace writes a file as a whole, or not at all.
func Replace(path string, data []byte, mode os.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
