package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/testsign"
)

func TestVerifyBundle(t *testing.T) {
	const issuer, name = "https://issuer.example", "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
	a, other := testsign.NewAuthority(t), testsign.NewAuthority(t)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	artifact := []byte("a release")
	digest := testsign.Digest(artifact)
	by := a.Issue(t, testsign.Person{URI: name, Issuer: issuer})
	statement := testsign.Statement(digest, "https://slsa.dev/provenance/v1")
	key := testsign.NewKey(t)
	signed := file("signed.json", testsign.CertifiedBundleOf(t, by.Content(t, statement), testsign.Proof{Log: a}).JSON)
	keyed := file("keyed.json", testsign.BundleOf(t, key, statement).JSON)
	trusted, others := file("trusted.json", a.TrustedRoot(t)), file("others.json", other.TrustedRoot(t))
	good, bad := file("good.pub", []byte(key.PEM)), file("bad.pub", []byte(testsign.NewKey(t).PEM))
	path, changed := file("release", artifact), file("changed", []byte("another release"))
	keyless := func(bundle, name, issuer, trusted, about string) []string {
		return []string{"--bundle", bundle, "--certificate-identity", name, "--certificate-oidc-issuer", issuer, "--trusted-root", trusted, about}
	}
	tests := []struct {
		name   string
		args   []string
		exit   int
		saying string
	}{
		{"a file", keyless(signed, name, issuer, trusted, path), exitOK, "verified"},
		{"a digest", keyless(signed, name, issuer, trusted, digest), exitOK, "verified"},
		{"another file", keyless(signed, name, issuer, trusted, changed), exitRefused, "digest"},
		{"another digest", keyless(signed, name, issuer, trusted, testsign.Digest([]byte("x"))), exitRefused, "digest"},
		{"another identity", keyless(signed, name+"0", issuer, trusted, path), exitRefused, "expected " + name + "0"},
		{"another issuer", keyless(signed, name, issuer+"/x", trusted, path), exitRefused, "expected \"" + issuer + "/x"},
		{"another authority", keyless(signed, name, issuer, others, path), exitRefused, "log"},
		{"a bundle with a key", keyless(keyed, name, issuer, trusted, path), exitRefused, "no certificate"},
		{"a key", []string{"--bundle", keyed, "--key", good, path}, exitOK, "verified"},
		{"another key", []string{"--bundle", keyed, "--key", bad, path}, exitRefused, "signature"},
		{"a key and another file", []string{"--bundle", keyed, "--key", good, changed}, exitRefused, "digest"},
		{"a key, without the log that is asked for", []string{"--bundle", keyed, "--key", good, "--trusted-root", trusted, path}, exitRefused, "log"},
		{"a certificate where a key is given", []string{"--bundle", signed, "--key", good, path}, exitRefused, "key"},
		{"no trusted root", []string{"--bundle", signed, "--certificate-identity", name, "--certificate-oidc-issuer", issuer, path}, exitUsage, "--trusted-root"},
		{"no identity", []string{"--bundle", signed, "--trusted-root", trusted, path}, exitUsage, "--key"},
		{"everybody", keyless(signed, "https://github.com/**", issuer, trusted, path), exitUsage, "wildcard"},
		{"no file", keyless(signed, name, issuer, trusted, path+"0"), exitUsage, "no such file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			exit := dispatch(append([]string{"verify-bundle"}, test.args...), &stdout, &stderr)
			said := stdout.String() + stderr.String()
			if exit != test.exit || !strings.Contains(said, test.saying) || strings.Count(said, "\n") != 1 {
				t.Errorf("got %d, want %d: %s", exit, test.exit, said)
			}
		})
	}
}
