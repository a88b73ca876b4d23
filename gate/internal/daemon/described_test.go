package daemon

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"countersign/gate/internal/audit"
	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
)

// page is the docs' page, which has the table between two marks.
const page = "../../../docs/metrics.md"

const (
	begin = "<!-- metrics: go test ./internal/daemon -run TestDocs -update -->\n"
	end   = "<!-- metrics end -->\n"
)

var update = flag.Bool("update", false, "write the table of metrics into docs/metrics.md")

// markdown gives the table of the docs.
func markdown() string {
	var b strings.Builder
	b.WriteString("| metric | type | means |\n| --- | --- | --- |\n")
	for _, d := range table {
		labels := ""
		if len(d.labels) > 0 {
			labels = "{" + strings.Join(d.labels, ",") + "}"
		}
		fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", d.name, labels, d.kind, d.help)
	}
	return b.String()
}

func TestDocsHaveTheMetricsOfTheCode(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	was, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has not the marks %q and %q", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+markdown()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if was != markdown() {
		t.Errorf("%s is not what the code says; run: go test ./internal/daemon -run TestDocs -update\ngot\n%s\nexpected\n%s", page, was, markdown())
	}
}

// everything gives metrics of which each has a value.
func everything(t *testing.T) *Metrics {
	t.Helper()
	m := NewMetrics("1.2.3", func() (int64, int) { return 0, 0 })
	m.WatchNRI(func() bool { return true })
	m.WatchHandlers()
	m.WatchAudits()
	m.Observes()
	log, err := OpenLog(t.TempDir()+"/verdicts.jsonl", 1<<20, 3)
	if err != nil {
		t.Fatal(err)
	}
	Observer{log, m}.Verdict(&verdict.Verdict{Layer: verdict.Create, Code: code.Unsigned, Millis: 3})
	m.Audited(&audit.Report{Time: time.Unix(1, 0)})
	m.reloads.WithLabelValues("valid").Inc()
	m.LookedUp(time.Second, nil)
	p := trusting(t)
	p.Lists = []policy.Revocations{{Name: "acme", Issued: "2026-11-29"}}
	m.Trusts(p)
	return m
}

func TestTheTableHasTheMetricsThatAreServed(t *testing.T) {
	families, err := everything(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var served, told []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "countersign_") {
			served = append(served, fmt.Sprintf("%s %s %s", f.GetName(), strings.ToLower(f.GetType().String()), f.GetHelp()))
			for _, label := range f.GetMetric()[0].GetLabel() {
				if !slices.Contains(of(f.GetName(), kind(strings.ToLower(f.GetType().String()))).labels, label.GetName()) {
					t.Errorf("%s has the label %s, of which the table knows nothing", f.GetName(), label.GetName())
				}
			}
		}
	}
	for _, d := range table {
		told = append(told, fmt.Sprintf("%s %s %s", d.name, d.kind, d.help))
	}
	slices.Sort(told)
	if !slices.Equal(served, told) {
		t.Errorf("served\n%s\ntold\n%s", strings.Join(served, "\n"), strings.Join(told, "\n"))
	}
}

// Prometheus' conventions: https://prometheus.io/docs/practices/naming/
func TestNamesFollowTheConventions(t *testing.T) {
	form := regexp.MustCompile(`^countersign(_[a-z]+)+$`)
	for _, d := range table {
		if !form.MatchString(d.name) || (d.kind == counter) != strings.HasSuffix(d.name, "_total") || (d.kind == histogram) && !strings.HasSuffix(d.name, "_seconds") {
			t.Errorf("%s is no name for a %s", d.name, d.kind)
		}
		if strings.ContainsAny(d.help, "|\n") || !strings.HasSuffix(d.help, ".") {
			t.Errorf("%s: %q is no sentence for a table", d.name, d.help)
		}
	}
}

// A counter that begins with its first increase is invisible to Prometheus' increase().
func TestEveryRefusalIsCountedFromNought(t *testing.T) {
	m := NewMetrics("1.2.3", func() (int64, int) { return 0, 0 })
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "countersign_verdicts_total" })
	if i < 0 || len(families[i].GetMetric()) != 2*len(code.All) {
		t.Fatalf("counted are %v", families)
	}
	for _, each := range families[i].GetMetric() {
		if each.GetCounter().GetValue() != 0 {
			t.Errorf("got %v", each)
		}
	}
}

func TestALookUpIsCountedUnderItsCode(t *testing.T) {
	m := NewMetrics("1.2.3", func() (int64, int) { return 0, 0 })
	m.LookedUp(time.Second, nil)
	m.LookedUp(time.Second, fmt.Errorf("said twice: %w", code.Refuse(code.RegistryAuth, "no login", "one", "log in")))
	m.LookedUp(time.Second, errors.New("something else"))
	for _, c := range []code.Code{code.OK, code.RegistryAuth, code.RegistryError} {
		if n := countOf(t, m, "countersign_registry_lookup_seconds", string(c)); n != 1 {
			t.Errorf("%s: %d", c, n)
		}
	}
}

func TestTheEndOfTrustIsTheFirstOfARootsPartsAndItsAgeTheOldest(t *testing.T) {
	m := NewMetrics("1.2.3", func() (int64, int) { return 0, 0 })
	p := trusting(t)
	m.Trusts(p)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var told, since bool
	for _, f := range families {
		if f.GetName() == "countersign_trust_end_timestamp_seconds" {
			first := p.Roots()[0].PKI.Intermediates[0].NotAfter
			if len(f.GetMetric()) != 1 || f.GetMetric()[0].GetGauge().GetValue() != float64(first.Unix()) {
				t.Errorf("got %v, expected %v alone", f.GetMetric(), first)
			}
			told = true
		}
		if f.GetName() == "countersign_trust_since_timestamp_seconds" {
			issued := p.Roots()[0].PKI.CRLs[0].ThisUpdate
			if len(f.GetMetric()) != 1 || f.GetMetric()[0].GetGauge().GetValue() != float64(issued.Unix()) {
				t.Errorf("got %v, expected %v alone", f.GetMetric(), issued)
			}
			since = true
		}
	}
	if !told || !since {
		t.Errorf("end told: %v, since told: %v", told, since)
	}
}

func TestItIsToldOfWhenAListOfWhatIsRevokedIs(t *testing.T) {
	m := NewMetrics("1.2.3", func() (int64, int) { return 0, 0 })
	m.Trusts(&policy.Policy{Lists: []policy.Revocations{{Name: "gone", Issued: "2026-01-01"}}})
	m.Trusts(&policy.Policy{Lists: []policy.Revocations{{Name: "acme", Issued: "2026-11-29"}}})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool {
		return f.GetName() == "countersign_revocations_issued_timestamp_seconds"
	})
	if i < 0 || len(families[i].GetMetric()) != 1 {
		t.Fatalf("got %v", families)
	}
	metric := families[i].GetMetric()[0]
	want := float64(time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC).Unix())
	if metric.GetLabel()[0].GetValue() != "acme" || metric.GetGauge().GetValue() != want {
		t.Errorf("got %v, expected %v", metric, want)
	}
}

// trusting gives a policy with a root of trust that ends.
func trusting(t *testing.T) *policy.Policy {
	t.Helper()
	a := testsign.NewAuthority(t)
	document, err := json.Marshal(map[string]any{
		"version": "countersign.policy/v1", "scopes": map[string]any{}, "pinned": []string{},
		"roots": map[string]any{"signer": map[string]any{"pki": map[string]any{
			"roots": []string{testsign.CertificatePEM(a.Root)}, "intermediates": []string{testsign.CertificatePEM(a.Intermediate)}, "email": "me@acme.example",
			"crls": []string{a.CRL(t, time.Now().Add(365*24*time.Hour))},
		}}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// countOf gives how often a histogram of one label observed something.
func countOf(t *testing.T, m *Metrics, name, label string) uint64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, each := range f.GetMetric() {
			if f.GetName() == name && each.GetLabel()[0].GetValue() == label {
				return each.GetHistogram().GetSampleCount()
			}
		}
	}
	return 0
}

// TestExposition writes what is served into $METRICS_FILE, for promtool.
func TestExposition(t *testing.T) {
	path := os.Getenv("METRICS_FILE")
	if path == "" {
		t.Skip("METRICS_FILE names no file: tests/alerts does")
	}
	if err := prometheus.WriteToTextfile(path, everything(t).registry); err != nil {
		t.Fatal(err)
	}
}
