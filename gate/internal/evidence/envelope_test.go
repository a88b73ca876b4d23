package evidence

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

func TestEnvelopesInTheStore(t *testing.T) {
	s := open(t, Config{})
	jws, cose := Envelope{"application/jose+json", []byte("{}")}, Envelope{"application/cose", []byte("{}")}
	set := Set{Repository: repo, Digest: digest, Envelopes: []Envelope{jws, cose}}
	if jws.ID() == cose.ID() {
		t.Fatal("two types of the same bytes are one")
	}
	put(t, s, set, false)
	put(t, s, set, false)
	got := get(t, s, digest)
	if len(got.Envelopes) != 2 || len(got.Problems) != 0 || got.Empty() || HashOf(got) != HashOf(set) {
		t.Fatalf("got %+v", got)
	}
	if HashOf(got) == HashOf(Set{Repository: repo, Digest: digest, Envelopes: []Envelope{jws}}) {
		t.Error("the hash does not cover envelopes")
	}
	path := filepath.Join(entryDir(s, digest), envelopeName(jws))
	for _, test := range []struct {
		name, content string
		want          code.Code
	}{
		{"changed", "{ }", code.Tampered},
		{"too large", strings.Repeat(" ", MaxEnvelope+1), code.Malformed},
	} {
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got = get(t, s, digest)
		if !slices.EqualFunc(got.Envelopes, []Envelope{cose}, same[Envelope]) || len(got.Problems) != 1 || got.Problems[0].Code != test.want {
			t.Errorf("%s: got %+v", test.name, got)
		}
	}
}
