package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/judge"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/reference"

	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
)

// Bounds of what verify-bundle reads, in bytes.
const (
	maxBundleFile   = 16 << 20
	maxArtifactFile = 1 << 30
)

// signed says what "verify-bundle" goes by: the protocol of sigstore-conformance.
type signed struct {
	bundle, identity, issuer, key, trustedRoot string
}

func (s *signed) flags(flags *flag.FlagSet) {
	flags.StringVar(&s.bundle, "bundle", "", "Sigstore bundle `FILE`")
	flags.StringVar(&s.identity, "certificate-identity", "", "`NAME` that the certificate must have")
	flags.StringVar(&s.issuer, "certificate-oidc-issuer", "", "`URL` of who vouched for the name")
	flags.StringVar(&s.key, "key", "", "public key `FILE`, in place of a certificate's name")
	flags.StringVar(&s.trustedRoot, "trusted-root", "", "trusted_root.json `FILE`: authorities and logs; needed with a certificate")
}

func (s *signed) check() error {
	byName := s.identity != "" || s.issuer != ""
	switch {
	case s.bundle == "":
		return errors.New("expected --bundle FILE")
	case byName == (s.key != ""):
		return errors.New("expected either --certificate-identity and --certificate-oidc-issuer, or --key")
	case byName && (s.identity == "" || s.issuer == ""):
		return errors.New("--certificate-identity and --certificate-oidc-issuer go together")
	case byName && s.trustedRoot == "":
		return errors.New("a certificate needs --trusted-root FILE")
	}
	return nil
}

// verifyBundle says whether a bundle is a signature of a file. No image, no policy of a
// node and no network has a part in it.
func verifyBundle(c *invocation) int {
	if err := c.signed.check(); err != nil {
		return c.misspelt(err)
	}
	document, err := bounded.File(c.signed.bundle, maxBundleFile)
	if err != nil {
		return c.misused(err)
	}
	artifact, err := artifactOf(c.arguments[0])
	if err != nil {
		return c.misused(err)
	}
	p, trusted, err := c.signed.load()
	if err != nil {
		return c.misused(err)
	}
	if err := judge.VerifyArtifact(document, p, trusted, artifact); err != nil {
		fmt.Fprintf(c.stderr, "refused: %s: %s\n", c.signed.bundle, strings.ReplaceAll(err.Error(), "\n", "; "))
		return c.told(exitRefused, err)
	}
	if c.json {
		err = c.document(map[string]any{"version": "countersign.verified-bundle/v1", "verified": true, "bundle": c.signed.bundle, "artifact": c.arguments[0]})
	} else {
		_, err = fmt.Fprintf(c.stdout, "verified: %s is a signature of %s\n", c.signed.bundle, c.arguments[0])
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}

// artifactOf gives what is signed: a digest, or a file.
func artifactOf(argument string) (func() sigstore.ArtifactPolicyOption, error) {
	_, statErr := os.Stat(argument)
	if statErr != nil && reference.CheckDigest(argument) == nil {
		raw, err := hex.DecodeString(strings.TrimPrefix(argument, "sha256:"))
		return func() sigstore.ArtifactPolicyOption { return sigstore.WithArtifactDigest("sha256", raw) }, err
	}
	content, err := bounded.File(argument, maxArtifactFile)
	if statErr != nil && strings.HasPrefix(argument, "sha256:") {
		err = fmt.Errorf("%q is neither a file nor a digest: expected sha256: and 64 hexadecimal digits", argument)
	}
	return func() sigstore.ArtifactPolicyOption { return sigstore.WithArtifact(bytes.NewReader(content)) }, err
}

// load gives a policy with the one root that the bundle is held against, and beside a key
// the trusted root whose log and time it needs.
func (s *signed) load() (*policy.Policy, *policy.Authority, error) {
	var document json.RawMessage
	if s.trustedRoot != "" {
		content, err := bounded.File(s.trustedRoot, maxBundleFile)
		if err != nil {
			return nil, nil, err
		}
		document = content
	}
	if s.key == "" {
		p, err := oneRoot(map[string]any{"keyless": map[string]any{"issuer": s.issuer, "subject": s.identity, "trustedRoot": []json.RawMessage{document}}})
		return p, nil, err
	}
	key, err := readKeyFile(s.key)
	if err != nil {
		return nil, nil, err
	}
	p, err := oneRoot(map[string]any{"publicKey": map[string]any{"keys": []string{key}}})
	if err != nil || document == nil {
		return p, nil, err
	}
	trusted, err := policy.ReadAuthority("--trusted-root", document)
	return p, &trusted, err
}

func oneRoot(root any) (*policy.Policy, error) {
	document, err := json.Marshal(map[string]any{"version": policy.Version, "roots": map[string]any{"given": root}})
	if err != nil {
		return nil, err
	}
	return policy.Parse(document)
}
