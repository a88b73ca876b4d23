package config

import (
	"path/filepath"
	"testing"
)

// FuzzParse checks that what is accepted keeps the bounds that the rest relies on.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"{}", `{"crio": {}}`, `{"containerd": {"address": "/c.sock"}}`, `{"logRotation": {"maxBytes": 1048576, "keep": 1}}`, `{"timeouts": {"verdict": "4s"}}`, `{"metrics": "127.0.0.1:1"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := Parse(content)
		if err != nil {
			return
		}
		if c.Timeouts.Verdict >= Duration(hookClient) || !filepath.IsAbs(c.Socket) || !filepath.IsAbs(c.Policy) || c.LogRotation.Keep < 1 || c.LogRotation.MaxBytes < minLog || c.Evidence.MaxBytes < 0 {
			t.Errorf("%q: %+v", content, c)
		}
	})
}
