package daemon

import "github.com/prometheus/client_golang/prometheus"

// kind is a metric's type, as Prometheus calls it.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// described is what is known of a metric: registration, docs/metrics.md and what Prometheus
// shows as its help come from here. Names follow Prometheus' conventions: a unit at the
// end, and _total for what only grows.
type described struct {
	name   string
	kind   kind
	labels []string
	help   string
}

// table has every metric of the gate's own, in the order of the docs.
var table = []described{
	{"countersign_verdicts_total", counter, []string{"layer", "code"},
		"Verdicts, by layer (pull, create; audit for what runs already or is only observed) and reason code."},
	{"countersign_verdict_seconds", histogram, []string{"layer"}, "Time in the gate for one verdict."},
	{"countersign_verifications_total", counter, nil, "Judgements that verified a signature, neither remembered nor joined."},
	{"countersign_registry_lookup_seconds", histogram, []string{"code"},
		"Time for one look-up at the hosts of a registry, of an image or of its signatures; code is OK, or why it failed."},
	{"countersign_policy_valid", gauge, nil, "1 while the policy file as it lies there is in force, 0 if it is invalid, older or not signed."},
	{"countersign_policy_serial", gauge, nil, "Serial of the policy in force, 0 for none."},
	{"countersign_policy_loads_total", counter, []string{"result"},
		"Loads of a changed policy file, by result: valid, forced (an older serial), invalid, older, unsigned, unremembered."},
	{"countersign_trust_end_timestamp_seconds", gauge, []string{"root"},
		"When the first of what a root of trust rests on ends (certificates, lists of revoked ones, the last log or authority of a kind), in Unix time; none for what never ends."},
	{"countersign_trust_since_timestamp_seconds", gauge, []string{"root"},
		"Since when the oldest of what a root of trust rests on is in use (keys whose day the policy says, lists of revoked certificates, certificates of those who sign), in Unix time; none where nothing says it."},
	{"countersign_revocations_issued_timestamp_seconds", gauge, []string{"list"},
		"When each list of what is revoked that the policy in force includes was issued, in Unix time."},
	{"countersign_evidence_bytes", gauge, nil, "Bytes in the evidence store."},
	{"countersign_evidence_limit_bytes", gauge, nil, "Bytes that it holds at most (evidence.maxBytes of gate.json); what was seen longest ago goes first."},
	{"countersign_evidence_entries", gauge, nil, "Images in the evidence store."},
	{"countersign_evidence_limit_entries", gauge, nil, "Images that it holds at most (evidence.maxEntries)."},
	{"countersign_nri_connected", gauge, nil, "1 while the runtime asks the gate before it makes a container, 0 while it does not; none where the gate is not an NRI plugin."},
	{"countersign_handlers_without_hook", gauge, nil,
		"containerd: runtime handlers whose containers would start unjudged, -1 while it does not say."},
	{"countersign_observing", gauge, nil, "1: OBSERVING, NOT ENFORCING; this node starts what the policy refuses. 0: this gate enforces."},
	{"countersign_observer_missed_total", counter, nil, "While observing: starts that were not judged because too many came at once."},
	{"countersign_audit_refused", gauge, []string{"code"},
		"Running containers and pod sandboxes that would be refused now, by reason code, at the last audit."},
	{"countersign_audit_containers", gauge, nil, "Running containers that the last audit judged."},
	{"countersign_audit_timestamp_seconds", gauge, nil, "When the last audit that came to its end began, in Unix time."},
	{"countersign_verdicts_not_logged_total", counter, nil, "Verdicts that stand and are in no log, as on a full disk."},
	{"countersign_build_info", gauge, []string{"version"}, "1; the label has the gate's version."},
}

// buckets reach from a remembered verdict to the longest deadline, in seconds.
var buckets = []float64{.0005, .001, .002, .003, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20}

// of finds a metric. The names are this package's own.
func of(name string, k kind) described {
	for _, d := range table {
		if d.name == name && d.kind == k {
			return d
		}
	}
	panic("no " + string(k) + " is called " + name)
}

func counters(name string) *prometheus.CounterVec {
	d := of(name, counter)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.name, Help: d.help}, d.labels)
}

func gauges(name string) *prometheus.GaugeVec {
	d := of(name, gauge)
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.name, Help: d.help}, d.labels)
}

func histograms(name string) *prometheus.HistogramVec {
	d := of(name, histogram)
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: d.name, Help: d.help, Buckets: buckets}, d.labels)
}

// asked is a gauge that is asked when metrics are read.
func asked(name string, value func() float64) prometheus.GaugeFunc {
	d := of(name, gauge)
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: d.name, Help: d.help}, value)
}
