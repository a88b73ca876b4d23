package judge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"countersign/gate/internal/evidence"
	"countersign/gate/internal/policy"
)

// recall remembers on disk what came of large attestations. Each file is bound to the
// policy, its trust, the image and the attestation by its name, and to this node by a
// MAC: what lies there and was not written by a gate of this node is nothing.
type recall struct {
	dir string

	mu  sync.Mutex
	key []byte // once it was needed
}

const (
	recallFolder = ".judged"
	recallKeyed  = "key"
	maxRecalled  = 1024    // files
	maxRecall    = 1 << 20 // bytes of one
	keySize      = 32
)

func newRecall(dir string) *recall { return &recall{dir: filepath.Join(dir, recallFolder)} }

// recallKey names what an outcome rests on.
func recallKey(p *policy.Policy, set evidence.Set, l evidence.Large) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", p.Hash, p.TrustHash, set.Repository, set.Digest, l.Sum))
	return hex.EncodeToString(sum[:])
}

// get gives what is remembered under a key, or nil.
func (r *recall) get(key string) *stated {
	if r == nil {
		return nil
	}
	secret, err := r.secret(false)
	if err != nil {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(r.dir, key), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	content := make([]byte, maxRecall)
	n, _ := file.Read(content)
	mac, document, ok := strings.Cut(string(content[:n]), "\n")
	if !ok || !hmac.Equal([]byte(mac), []byte(sealed(secret, key, document))) {
		return nil
	}
	found := &stated{}
	if err := json.Unmarshal([]byte(document), found); err != nil || !now().Before(found.Until) {
		return nil
	}
	return found
}

// put remembers. That it cannot is told, and costs time alone.
func (r *recall) put(key string, found *stated) {
	if r == nil {
		return
	}
	if err := r.write(key, found); err != nil {
		slog.Error("what came of a large attestation is not remembered", "error", err)
	}
}

func (r *recall) write(key string, found *stated) error {
	secret, err := r.secret(true)
	if err != nil {
		return err
	}
	document, err := json.Marshal(found)
	if err != nil {
		return err
	}
	content := sealed(secret, key, string(document)) + "\n" + string(document)
	if len(content) > maxRecall {
		return fmt.Errorf("%d bytes", len(content))
	}
	r.makeRoom()
	path := filepath.Join(r.dir, key)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// makeRoom drops the oldest where there are too many.
func (r *recall) makeRoom() {
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) <= maxRecalled {
		return
	}
	age := func(e fs.DirEntry) int64 {
		info, err := e.Info()
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return int(min(max(age(a)-age(b), -1), 1)) })
	for _, e := range entries[:len(entries)-maxRecalled] {
		if e.Name() != recallKeyed {
			os.Remove(filepath.Join(r.dir, e.Name()))
		}
	}
}

func sealed(secret []byte, key, document string) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s\n%s", key, document)
	return hex.EncodeToString(mac.Sum(nil))
}

// secret gives this node's key, which is made when it is first needed.
func (r *recall) secret(create bool) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key != nil {
		return r.key, nil
	}
	path := filepath.Join(r.dir, recallKeyed)
	key, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		key, err = makeSecret(path)
	}
	if err == nil {
		r.key = key
	}
	return key, err
}

func readSecret(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || int(owner.Uid) != os.Geteuid() || info.Size() != keySize {
		return nil, fmt.Errorf("%s is not a key of %d bytes that its owner alone can read", path, keySize)
	}
	return os.ReadFile(path)
}

func makeSecret(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	key := make([]byte, keySize)
	rand.Read(key)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readSecret(path) // another process was first
	}
	if err != nil {
		return nil, err
	}
	_, err = file.Write(key)
	return key, errors.Join(err, file.Close())
}
