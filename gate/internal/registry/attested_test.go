package registry_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/evidence"
	"countersign/gate/internal/registry"
	"countersign/gate/internal/testsign"
)

const (
	slsa = "https://slsa.dev/provenance/v1"
	bom  = "https://cyclonedx.org/bom"
)

func (w *world) fetchTypes(t testing.TB, types ...string) evidence.Set {
	t.Helper()
	set, err := registry.New(w.config).Fetch(t.Context(), w.repository, w.digest, nil, types...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (w *world) statement(t testing.TB, predicateType string, predicate any) []byte {
	t.Helper()
	return testsign.StatementOf(t, "v1", predicateType, predicate, w.digest)
}

// predicates tells what the statements of a set are about.
func predicates(t testing.TB, set evidence.Set) string {
	t.Helper()
	var found []string
	for _, b := range set.Bundles {
		var form struct {
			Envelope struct{ Payload []byte } `json:"dsseEnvelope"`
		}
		var statement struct{ PredicateType string }
		if json.Unmarshal(b.JSON, &form) != nil || json.Unmarshal(form.Envelope.Payload, &statement) != nil {
			t.Fatalf("%s", b.JSON)
		}
		found = append(found, statement.PredicateType)
	}
	return strings.Join(found, " ")
}

func annotated(predicateType string) map[string]string {
	return map[string]string{"dev.sigstore.bundle.predicateType": predicateType}
}

func TestAttestationsAmongTenThousandReferrers(t *testing.T) {
	var listed []testsign.Descriptor
	w := newWorld(t, false, listing(&listed, 100, false))
	w.config.Timeout = 20 * time.Second
	for i := range 10_000 {
		listed = append(listed, attestation(i, testsign.BundleType, annotated(bom)))
	}
	for predicateType, statement := range map[string][]byte{
		slsa: w.statement(t, slsa, nil), testsign.SignPredicate: testsign.Statement(w.digest, testsign.SignPredicate),
	} {
		d := w.pusher.Referrer(t, w.digest, testsign.BundleType, testsign.BundleOf(t, w.key, statement).JSON)
		d.ArtifactType, d.Annotations = testsign.BundleType, annotated(predicateType)
		listed = append(listed, d)
	}
	if got := predicates(t, w.fetchTypes(t)); got != testsign.SignPredicate {
		t.Errorf("without types: %s", got)
	}
	set := w.fetchTypes(t, slsa)
	if got := predicates(t, set); got != testsign.SignPredicate+" "+slsa || len(set.Problems) != 0 {
		t.Errorf("%s, %v", got, set.Problems)
	}
	// More of the type that is asked for than are read hide no signature, and it is told.
	set = w.fetchTypes(t, bom)
	if got := predicates(t, set); got != testsign.SignPredicate {
		t.Errorf("%s", got)
	}
	problem(t, set, code.Malformed, "10000 attestations of the types that are asked for")
}

func TestLargeAttestationsPushOutNoSignature(t *testing.T) {
	w := newWorld(t, false, nil)
	var listed []testsign.Descriptor
	add := func(predicateType string, statement []byte) {
		d := w.pusher.Referrer(t, w.digest, testsign.BundleType, testsign.BundleOf(t, w.key, statement).JSON)
		d.ArtifactType, d.Annotations = testsign.BundleType, annotated(predicateType)
		listed = append(listed, d)
	}
	for i := range 8 {
		add(slsa, w.statement(t, slsa, strings.Repeat("x", 100_000+i)))
	}
	add(testsign.SignPredicate, testsign.Statement(w.digest, testsign.SignPredicate))
	w.pusher.Fallback(t, w.digest, listed...)
	set := w.fetchTypes(t, slsa)
	if got := predicates(t, set); !strings.HasPrefix(got, testsign.SignPredicate) || strings.Count(got, slsa) < 2 {
		t.Errorf("%s", got)
	}
	problem(t, set, code.Malformed, "of all attestations")
}

func TestAttestationsOfCosign2(t *testing.T) {
	w := newWorld(t, true, nil)
	authority := testsign.NewAuthority(t)
	signer := authority.Issue(t, testsign.Person{Email: "dev@acme.example", Issuer: "https://accounts.example"})
	good := testsign.Envelope(t, signer.Content(t, w.statement(t, slsa, "certified")), testsign.Proof{Log: authority})
	keyed := testsign.Envelope(t, testsign.Signer{Key: w.key}.Content(t, w.statement(t, slsa, "keyed")), testsign.Proof{})
	w.pusher.Attested(t, w.digest, good, keyed)
	if got := predicates(t, w.fetchTypes(t)); got != "" {
		t.Errorf("without types: %s", got)
	}
	first, again := w.fetchTypes(t, slsa), w.fetchTypes(t, slsa)
	if got := predicates(t, first); got != slsa+" "+slsa || len(first.Problems) != 0 {
		t.Errorf("%s, %v", got, first.Problems)
	}
	if evidence.HashOf(first) != evidence.HashOf(again) {
		t.Error("one attestation is two, as it was read twice")
	}
}

func TestWhatIsNoAttestationOfCosign2(t *testing.T) {
	w := newWorld(t, true, nil)
	authority := testsign.NewAuthority(t)
	signer := authority.Issue(t, testsign.Person{Email: "dev@acme.example", Issuer: "https://accounts.example"})
	for name, c := range map[string]struct {
		change func(*evidence.Attachment)
		saying string
	}{
		"no JSON":      {func(a *evidence.Attachment) { a.Payload = []byte("hello") }, "not a DSSE envelope"},
		"no signature": {func(a *evidence.Attachment) { a.Payload = []byte(`{"payload":"e30=","signatures":[]}`) }, "0 DSSE signatures"},
		"two signatures": {func(a *evidence.Attachment) {
			a.Payload = []byte(`{"payload":"e30=","signatures":[{"sig":""},{"sig":""}]}`)
		}, "2 DSSE signatures"},
		"no payload":      {func(a *evidence.Attachment) { a.Payload = []byte(`{"signatures":[{"sig":""}]}`) }, "no payload"},
		"no certificate":  {func(a *evidence.Attachment) { a.Annotations["dev.sigstore.cosign/certificate"] = "x" }, "does not hold one certificate"},
		"a bad chain":     {func(a *evidence.Attachment) { a.Annotations["dev.sigstore.cosign/chain"] = "x" }, "dev.sigstore.cosign/chain"},
		"a bad entry":     {func(a *evidence.Attachment) { a.Annotations["dev.sigstore.cosign/bundle"] = "{}" }, "log entry"},
		"a bad timestamp": {func(a *evidence.Attachment) { a.Annotations["dev.sigstore.cosign/rfc3161timestamp"] = "x" }, "not a timestamp"},
		"an entry for another kind": {func(a *evidence.Attachment) {
			a.Annotations["dev.sigstore.cosign/bundle"] = testsign.CertifiedAttachment(t, signer, "r.example/a", w.digest, testsign.Proof{Log: authority}).Annotations["dev.sigstore.cosign/bundle"]
		}, "not intoto 0.0.2 or dsse 0.0.1"},
	} {
		bad := testsign.Envelope(t, signer.Content(t, w.statement(t, slsa, fmt.Sprint(name))), testsign.Proof{Log: authority})
		good := testsign.Envelope(t, signer.Content(t, w.statement(t, slsa, "good")), testsign.Proof{Log: authority})
		c.change(&bad)
		w.pusher.Attested(t, w.digest, bad, good)
		set := w.fetchTypes(t, slsa)
		if len(set.Bundles) != 1 {
			t.Errorf("%s: %d bundles", name, len(set.Bundles))
		}
		problem(t, set, code.Malformed, c.saying)
	}
}

func TestLargeAttestationsGoToTheSpool(t *testing.T) {
	w := newWorld(t, true, nil)
	w.config.Spool = t.TempDir()
	authority := testsign.NewAuthority(t)
	signer := authority.Issue(t, testsign.Person{Email: "dev@acme.example", Issuer: "https://accounts.example"})
	large := func(mark string) []byte { return w.statement(t, bom, mark+strings.Repeat("x", 16<<20)) }
	w.pusher.Bundles(t, w.digest, false, testsign.Bundle(t, w.key, w.digest), testsign.BundleOf(t, w.key, large("referrer")))
	w.pusher.Attested(t, w.digest, testsign.Envelope(t, signer.Content(t, large("attached")), testsign.Proof{Log: authority}))
	set := w.fetchTypes(t, bom)
	if len(set.Large) != 2 || len(set.Bundles) != 1 || len(set.Problems) != 0 {
		t.Fatalf("%d large, %d bundles, %v", len(set.Large), len(set.Bundles), set.Problems)
	}
	for _, l := range set.Large {
		content, err := os.ReadFile(l.Path)
		if err != nil || testsign.Digest(content) != "sha256:"+l.Sum || int64(len(content)) != l.Size || l.Size <= evidence.MaxInMemory {
			t.Errorf("%+v: %d bytes, %v", l, len(content), err)
		}
		if !json.Valid(content) {
			t.Errorf("%.100s", content)
		}
	}
	spooled, _ := os.ReadDir(w.config.Spool)
	if len(spooled) != 2 {
		t.Errorf("%d files in the spool", len(spooled))
	}
	// Who asks for none gets none, and without a spool there is no room.
	if set := w.fetchTypes(t); len(set.Large) != 0 {
		t.Errorf("%d large", len(set.Large))
	}
	w.config.Spool = ""
	problem(t, w.fetchTypes(t, bom), code.NoAttestation, "too large")
}

func TestAttestationsBeyondTheBoundAreNotRead(t *testing.T) {
	w := newWorld(t, true, nil)
	w.config.Spool = t.TempDir()
	var bundles []evidence.Bundle
	for i := range 6 {
		bundles = append(bundles, testsign.BundleOf(t, w.key, w.statement(t, bom, fmt.Sprint(i)+strings.Repeat("x", evidence.MaxInMemory))))
	}
	w.pusher.Bundles(t, w.digest, false, bundles...)
	set := w.fetchTypes(t, bom)
	if len(set.Large) != 4 {
		t.Errorf("%d large", len(set.Large))
	}
	problem(t, set, code.NoAttestation, "too large")
}

// Every name that a bundle is met under beside an image, in signatures and attestations.
func TestABundleIsReadUnderEveryTypeThatItIsMetUnder(t *testing.T) {
	const old = "application/vnd.dev.sigstore.bundle+json;version="
	for _, test := range []struct {
		artifactType string
		read         bool
	}{
		{testsign.BundleType, true}, {old + "0.3", true}, {old + "0.2", true}, {old + "0.1", true},
		{old + "0.4", false}, {"application/vnd.dev.sigstore.bundle.v0.4+json", false}, {"application/vnd.in-toto+json", false},
	} {
		t.Run(test.artifactType, func(t *testing.T) {
			w := newWorld(t, true, nil)
			for _, predicateType := range []string{testsign.SignPredicate, slsa} {
				statement := testsign.Statement(w.digest, predicateType)
				w.pusher.Referrer(t, w.digest, test.artifactType, testsign.BundleOf(t, w.key, statement).JSON)
			}
			set := w.fetchTypes(t, slsa)
			if (len(set.Bundles) == 2) != test.read || len(set.Problems) != 0 {
				t.Errorf("%d bundles, %v", len(set.Bundles), set.Problems)
			}
		})
	}
}
