package prove

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"

	"countersign/gate/internal/bounded"
)

// Version of a receipt's form, and its type in a DSSE envelope.
const (
	Version     = "countersign.receipt/v1"
	PayloadType = "application/vnd.countersign.receipt.v1+json"
)

// maxReceipt bounds a receipt that is read.
const maxReceipt = 1 << 20

// maxKey bounds a key that is read.
const maxKey = 64 << 10

// Receipt says what was tried on a node, and what came of it.
type Receipt struct {
	Version  string    `json:"version"`
	Node     string    `json:"node"` // its host name
	Runtime  Runtime   `json:"runtime"`
	Gate     string    `json:"gate"` // its version
	Policy   Policy    `json:"policy"`
	Started  time.Time `json:"started"`
	Millis   int64     `json:"ms"`
	Canary   string    `json:"canary"` // the image, by digest
	Refused  []Refusal `json:"refused"`
	Allowed  []Allowed `json:"allowed"`
	Problems []Problem `json:"problems"`
	Notes    []string  `json:"notes"`
	Proven   Proven    `json:"proven"`
}

// Runtime is a runtime as it names itself.
type Runtime struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Policy is the policy that was in force.
type Policy struct {
	Hash   string `json:"hash"`
	Serial int64  `json:"serial,omitempty"` // 0 where policies have none
}

// Refusal is a refusal of the canary.
type Refusal struct {
	Layer   string `json:"layer"` // pull or create
	Handler string `json:"handler,omitempty"`
	By      string `json:"by"`     // gate, or the runtime whose own engine it was
	Reason  string `json:"reason"` // the gate's code, or the engine's word
}

// Allowed is an image that got through.
type Allowed struct {
	Layer   string `json:"layer"`
	Handler string `json:"handler,omitempty"`
	Image   string `json:"image"`
	Rule    string `json:"rule"` // of the policy: anyOf(team-key), pinned, accept
}

// Problem is something that was not as it has to be.
type Problem struct {
	Where    string `json:"where"`
	Found    string `json:"found"`
	Expected string `json:"expected"`
}

// Proven sums up.
type Proven struct {
	Refuse bool `json:"refuse"` // the canary was refused everywhere
	Allow  bool `json:"allow"`  // an image that the policy allows got through
}

// Holds says whether the proof holds: without an image to allow it does, and says so.
func (r *Receipt) Holds() bool { return r.Proven.Refuse && len(r.Problems) == 0 }

// letThrough is what is found of an image that nothing refused.
const letThrough = "allowed"

// Through says whether a canary was let through somewhere: what else a proof may find says
// that something was refused for another reason, or could not be tried.
func (r *Receipt) Through() bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Found == letThrough })
}

// NotAllowed begins the note of a receipt that lacks the half of allowing.
const NotAllowed = "allow not proven"

// Sign gives the receipt in a DSSE envelope, signed with the private key in a PEM file
// that only its owner may read.
func (r *Receipt) Sign(path string) ([]byte, error) {
	pem, err := readKey(path, true)
	if err != nil {
		return nil, err
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(pem, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; expected a private key in PEM, without a password", path, err)
	}
	signer, err := signature.LoadSigner(key, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return dsse.WrapSigner(signer, PayloadType).SignMessage(bytes.NewReader(payload))
}

// Open verifies a signed receipt with the public key in a PEM file, and gives it.
func Open(path, key string) (*Receipt, error) {
	pem, err := readKey(key, false)
	if err != nil {
		return nil, err
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; expected a public key in PEM", key, err)
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	envelope, err := readBounded(path, maxReceipt)
	if err != nil {
		return nil, err
	}
	var payload []byte
	verified := dsse.WrapVerifier(verifier, dsse.WithExpectedPayloadType(PayloadType), dsse.WithDecodedPayload(&payload))
	if err := verified.VerifySignature(bytes.NewReader(envelope), nil); err != nil {
		return nil, fmt.Errorf("%w: %s with %s: %w", ErrNotSigned, path, key, err)
	}
	var receipt Receipt
	if err := json.Unmarshal(payload, &receipt); err != nil || receipt.Version != Version {
		return nil, fmt.Errorf("%w: %s has version %.40q, expected %q", ErrNotSigned, path, receipt.Version, Version)
	}
	return &receipt, nil
}

// ErrNotSigned is the error of a receipt that the key did not sign.
var ErrNotSigned = errors.New("no receipt that this key signed")

// Write replaces a file as a whole. What a link leads to is replaced, not the link; into a
// device or a pipe, such as /dev/stdout, it is written.
func Write(path string, content []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, content, 0o644)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".countersign-receipt-")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

func readKey(path string, private bool) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && private && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o: others may read the key; expected 0600", path, info.Mode().Perm())
	}
	return readBounded(path, maxKey)
}

func readBounded(path string, bound int64) ([]byte, error) {
	file, err := bounded.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, bound+1))
	if err == nil && int64(len(content)) > bound {
		err = fmt.Errorf("%s: over %d bytes", path, bound)
	}
	return content, err
}

// Plain gives the receipt as JSON, for a node without a key.
func (r *Receipt) Plain() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }
