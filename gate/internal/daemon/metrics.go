package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"countersign/gate/internal/audit"
	"countersign/gate/internal/code"
	"countersign/gate/internal/expiry"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/verdict"
)

// Metrics counts what the gate does.
type Metrics struct {
	registry      *prometheus.Registry
	verdicts      *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	verifications prometheus.Counter
	lookups       *prometheus.HistogramVec
	notLogged     prometheus.Counter
	policyValid   prometheus.Gauge
	policySerial  prometheus.Gauge
	reloads       *prometheus.CounterVec
	trustEnds     *prometheus.GaugeVec
	trustSince    *prometheus.GaugeVec
	listIssued    *prometheus.GaugeVec
	limitBytes    prometheus.Gauge
	limitEntries  prometheus.Gauge
	unhooked      prometheus.Gauge
	observing     prometheus.Gauge
	missed        prometheus.Counter
	auditRefused  *prometheus.GaugeVec
	auditRunning  prometheus.Gauge
	auditTime     prometheus.Gauge
}

// NewMetrics makes the metrics of a gate of some version; usage tells how full the
// evidence store is.
func NewMetrics(version string, usage func() (bytes int64, entries int)) *Metrics {
	m := &Metrics{
		registry:      prometheus.NewRegistry(),
		verdicts:      counters("countersign_verdicts_total"),
		seconds:       histograms("countersign_verdict_seconds"),
		verifications: counters("countersign_verifications_total").WithLabelValues(),
		lookups:       histograms("countersign_registry_lookup_seconds"),
		notLogged:     counters("countersign_verdicts_not_logged_total").WithLabelValues(),
		policyValid:   gauges("countersign_policy_valid").WithLabelValues(),
		policySerial:  gauges("countersign_policy_serial").WithLabelValues(),
		reloads:       counters("countersign_policy_loads_total"),
		trustEnds:     gauges("countersign_trust_end_timestamp_seconds"),
		trustSince:    gauges("countersign_trust_since_timestamp_seconds"),
		listIssued:    gauges("countersign_revocations_issued_timestamp_seconds"),
		limitBytes:    gauges("countersign_evidence_limit_bytes").WithLabelValues(),
		limitEntries:  gauges("countersign_evidence_limit_entries").WithLabelValues(),
		unhooked:      gauges("countersign_handlers_without_hook").WithLabelValues(),
		observing:     gauges("countersign_observing").WithLabelValues(),
		missed:        counters("countersign_observer_missed_total").WithLabelValues(),
		auditRefused:  gauges("countersign_audit_refused"),
		auditRunning:  gauges("countersign_audit_containers").WithLabelValues(),
		auditTime:     gauges("countersign_audit_timestamp_seconds").WithLabelValues(),
	}
	// From nought on: Prometheus sees no increase in a counter that begins with 1.
	for _, layer := range []verdict.Layer{verdict.Pull, verdict.Create} {
		for _, c := range code.All {
			m.verdicts.WithLabelValues(string(layer), string(c))
		}
	}
	build := gauges("countersign_build_info")
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.verdicts, m.seconds, m.verifications, m.lookups, m.notLogged, m.policyValid, m.policySerial, m.reloads, m.trustEnds, m.trustSince, m.listIssued, m.limitBytes, m.limitEntries, m.observing, build,
		asked("countersign_evidence_bytes", func() float64 { bytes, _ := usage(); return float64(bytes) }),
		asked("countersign_evidence_entries", func() float64 { _, entries := usage(); return float64(entries) }),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector())
	return m
}

// Limits tells how much the evidence store holds at most.
func (m *Metrics) Limits(bytes int64, entries int) {
	m.limitBytes.Set(float64(bytes))
	m.limitEntries.Set(float64(entries))
}

// LookedUp counts a look-up at a registry (registry.Config).
func (m *Metrics) LookedUp(took time.Duration, err error) {
	found := code.OK
	if err != nil {
		found = code.RegistryError
	}
	if refusal := (*code.Refusal)(nil); errors.As(err, &refusal) {
		found = refusal.Code
	}
	m.lookups.WithLabelValues(string(found)).Observe(took.Seconds())
}

// Trusts tells when the roots of trust of the policy in force end, since when they are in
// use, and of when its lists of what is revoked are.
func (m *Metrics) Trusts(p *policy.Policy) {
	m.trustEnds.Reset()
	m.trustSince.Reset()
	m.listIssued.Reset()
	for _, list := range p.Lists {
		m.listIssued.WithLabelValues(list.Name).Set(float64(list.At().Unix()))
	}
	for _, root := range p.Roots() {
		if end := expiry.First(root); !end.IsZero() {
			m.trustEnds.WithLabelValues(root.Name).Set(float64(end.Unix()))
		}
		if since := expiry.Oldest(p, root); !since.IsZero() {
			m.trustSince.WithLabelValues(root.Name).Set(float64(since.Unix()))
		}
	}
}

// WatchNRI has the metrics tell whether the gate's NRI plugin is registered.
func (m *Metrics) WatchNRI(registered func() bool) {
	m.registry.MustRegister(asked("countersign_nri_connected", func() float64 {
		if registered() {
			return 1
		}
		return 0
	}))
}

// WatchHandlers has the metrics tell of runtime handlers: on containerd only.
func (m *Metrics) WatchHandlers() { m.registry.MustRegister(m.unhooked) }

// HandlersWithoutHook sets the number of handlers without the hook.
func (m *Metrics) HandlersWithoutHook(n int) { m.unhooked.Set(float64(n)) }

// Observes has the metrics say that nothing is enforced, and count what was missed.
func (m *Metrics) Observes() {
	m.observing.Set(1)
	m.registry.MustRegister(m.missed)
}

// Missed counts a start that was not judged.
func (m *Metrics) Missed() { m.missed.Inc() }

// WatchAudits has the metrics tell of audits.
func (m *Metrics) WatchAudits() {
	m.registry.MustRegister(m.auditRefused, m.auditRunning, m.auditTime)
}

// Audited sets what an audit has found, for every code that refuses.
func (m *Metrics) Audited(r *audit.Report) {
	refused := map[code.Code]int{}
	for _, e := range slices.Concat(r.Containers, r.Sandboxes) {
		refused[e.Code]++
	}
	for _, c := range code.All {
		if !c.Allows() {
			m.auditRefused.WithLabelValues(string(c)).Set(float64(refused[c]))
		}
	}
	m.auditRunning.Set(float64(len(r.Containers)))
	m.auditTime.Set(float64(r.Time.UnixMilli()) / 1000)
}

// Observer writes verdicts into the log and counts them (engine.Observer).
type Observer struct {
	Log     *Log
	Metrics *Metrics
}

// Verdict implements engine.Observer.
func (o Observer) Verdict(v *verdict.Verdict) {
	o.Metrics.verdicts.WithLabelValues(string(v.Layer), string(v.Code)).Inc()
	o.Metrics.seconds.WithLabelValues(string(v.Layer)).Observe(v.Millis / 1000)
	if err := o.Log.Write(v); err != nil {
		o.Metrics.notLogged.Inc()
	}
}

// Verification implements engine.Observer.
func (o Observer) Verification() { o.Metrics.verifications.Inc() }

// ListenMetrics opens the address of gate.json's "metrics": "unix:PATH" or a
// loopback address; nil for "".
func ListenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenPrivate(path)
	}
	return net.Listen("tcp", address)
}

// Serve answers GET /metrics on a listener until the context ends.
func (m *Metrics) Serve(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	server := &http.Server{Handler: mux, ReadTimeout: transfer, WriteTimeout: 2 * transfer, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
