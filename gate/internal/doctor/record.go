package doctor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// RecordVersion is that of the record.
const RecordVersion = "countersign.record/v1"

const maxRecord = 4 << 20

// Laid is what set-up put at one path.
type Laid struct {
	Kind   string      `json:"kind"` // f for a file, l for a link
	Mode   fs.FileMode `json:"mode"` // of a file
	Target string      `json:"target"`
	SHA256 string      `json:"sha256"` // of a file's content, in hex
}

func (l Laid) String() string {
	switch l.Kind {
	case "l":
		return "a link to " + l.Target
	case "":
		return "not a file"
	}
	return fmt.Sprintf("sha256:%s with mode %o", l.SHA256, l.Mode)
}

// readRecord reads path → what set-up put there.
func readRecord(from io.Reader) (map[string]Laid, error) {
	var found struct {
		Version string          `json:"version"`
		Files   map[string]Laid `json:"files"`
	}
	content, err := io.ReadAll(io.LimitReader(from, maxRecord))
	if err == nil {
		err = json.Unmarshal(content, &found)
	}
	if err == nil && found.Version != RecordVersion {
		err = fmt.Errorf("version %q, expected %q", found.Version, RecordVersion)
	}
	if err == nil && len(found.Files) == 0 {
		err = fmt.Errorf("it names no file")
	}
	if err != nil {
		return nil, fmt.Errorf("the record of set-up: %w", err)
	}
	return found.Files, nil
}

// recordProblems finds what is not as set-up left it.
func recordProblems(n *Node) ([]Finding, error) {
	if n.recordErr != nil {
		return nil, n.recordErr
	}
	if n.record == nil {
		return nil, skipped("no record was given (--record)")
	}
	var found []Finding
	for _, path := range slices.Sorted(maps.Keys(n.record)) {
		wanted := n.record[path]
		there, err := laidAt(path)
		switch {
		case os.IsNotExist(err):
			found = append(found, Finding{path, "missing", wanted.String(), n.options.again("set the node up again")})
		case err != nil:
			return found, err
		case !wanted.equal(there):
			found = append(found, Finding{path, there.String(), wanted.String(), n.options.again("set the node up again")})
		}
	}
	return found, nil
}

// equal says whether the same lies there; a link has no mode of its own.
func (l Laid) equal(there Laid) bool {
	if l.Kind == "l" {
		return there.Kind == "l" && there.Target == l.Target
	}
	return l == there
}

func laidAt(path string) (Laid, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Laid{}, err
	}
	switch info.Mode().Type() {
	case 0:
		digest, err := sum(path)
		return Laid{Kind: "f", Mode: bits(info), SHA256: digest}, err
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		return Laid{Kind: "l", Target: target}, err
	}
	return Laid{}, nil
}

// bits gives a file's mode as chmod(1) has it.
func bits(info fs.FileInfo) fs.FileMode {
	mode := info.Mode().Perm()
	for special, bit := range map[fs.FileMode]fs.FileMode{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&special != 0 {
			mode |= bit
		}
	}
	return mode
}

// sum gives the sha256 of a file, in hex.
func sum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}
