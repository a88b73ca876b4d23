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
	"countersign/gate/internal/verdict"
)

// Metrics counts what the gate does.
type Metrics struct {
	registry      *prometheus.Registry
	verdicts      *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	verifications prometheus.Counter
	notLogged     prometheus.Counter
	policyValid   prometheus.Gauge
	policySerial  prometheus.Gauge
	reloads       *prometheus.CounterVec
	unhooked      prometheus.Gauge
	observing     prometheus.Gauge
	missed        prometheus.Counter
	auditRefused  *prometheus.GaugeVec
	auditRunning  prometheus.Gauge
	auditTime     prometheus.Gauge
}

// NewMetrics makes the metrics; usage tells how full the evidence store is.
func NewMetrics(usage func() (bytes int64, entries int)) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_verdicts_total", Help: "Verdicts, by layer and reason code.",
		}, []string{"layer", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "countersign_verdict_seconds", Help: "Time in the gate for one verdict.",
			Buckets: []float64{.0005, .001, .002, .003, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"layer"}),
		verifications: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_verifications_total", Help: "Judgements that verified a signature, neither remembered nor joined.",
		}),
		notLogged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_verdicts_not_logged_total", Help: "Verdicts that stand and are in no log, as on a full disk.",
		}),
		policyValid: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_policy_valid", Help: "1 if the policy file as it is now is in force, 0 if it is invalid, older or not signed.",
		}),
		policySerial: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_policy_serial", Help: "Serial of the policy in force, 0 for none.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_policy_loads_total", Help: "Loads of a changed policy file, by result: valid, forced (an older serial), invalid, older, unsigned, unremembered.",
		}, []string{"result"}),
		observing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_observing", Help: "1: OBSERVING, NOT ENFORCING; this node starts what the policy refuses. 0: this gate enforces.",
		}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "countersign_observer_missed_total", Help: "Starts that were not judged because too many came at once.",
		}),
		auditRefused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_audit_refused", Help: "Running containers and pod sandboxes that would be refused now, by reason code, at the last audit.",
		}, []string{"code"}),
		auditRunning: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_audit_containers", Help: "Running containers that the last audit judged.",
		}),
		auditTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_audit_timestamp_seconds", Help: "When the last audit that came to its end began, in Unix time.",
		}),
		unhooked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_handlers_without_hook", Help: "Runtime handlers of containerd whose containers would start unjudged, -1 while it does not say.",
		}),
	}
	m.registry.MustRegister(m.verdicts, m.seconds, m.verifications, m.notLogged, m.policyValid, m.policySerial, m.reloads, m.observing,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_evidence_bytes", Help: "Bytes in the evidence store.",
		}, func() float64 { bytes, _ := usage(); return float64(bytes) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "countersign_evidence_entries", Help: "Images in the evidence store.",
		}, func() float64 { _, entries := usage(); return float64(entries) }),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector())
	return m
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
