package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/verdict"
)

// Bounds on what pods are told of their refusals.
const (
	maxWaiting   = 64 // refusals that are to be told
	maxAtOnce    = 16 // of them in one look
	maxRemembers = 1024
	maxEvent     = 1000           // bytes; the API server takes 1,024
	afresh       = time.Hour      // as long as a cluster keeps events
	refusedEvent = "ImageRefused" // admission lets agents give this reason to pods alone
)

// Names as the API server has them (RFC 1123). They come from a log, and become part of a
// path.
var (
	podName      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	podNamespace = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	podUID       = regexp.MustCompile(`^[0-9a-f-]{32,36}$`)
)

// podRefusal is a refusal that a pod is to be told of.
type podRefusal struct{ namespace, name, uid, image, code, message string }

// pods are told what of them was refused: once an hour for an image and a code.
type pods struct {
	waiting []podRefusal // the newest last
	told    map[string]bool
}

// add takes up a verdict, where it is about a pod of the cluster.
func (p *pods) add(v verdict.Verdict) {
	namespace, name, _ := strings.Cut(v.Pod, "/")
	if !podNamespace.MatchString(namespace) || !podName.MatchString(name) || !podUID.MatchString(v.PodUID) {
		return // as at pull, where no pod is known: the kubelet's own event has the message
	}
	p.waiting = append(p.waiting, podRefusal{namespace, name, v.PodUID, v.Image, string(v.Code), v.Message})
	if over := len(p.waiting) - maxWaiting; over > 0 {
		p.waiting = p.waiting[over:]
	}
}

// tellPods has the API server keep an event for each that waits. An event's name says
// what it is about, so that an agent that began anew makes no second one. One that can't
// be made is not tried again, unless the API server is away.
func (a *agent) tellPods(ctx context.Context) {
	for tried := 0; len(a.pods.waiting) > 0 && tried < maxAtOnce; a.pods.waiting = a.pods.waiting[1:] {
		one := a.pods.waiting[0]
		name := one.event(time.Now())
		if a.pods.told[name] {
			continue
		}
		tried++
		err := a.API.do(ctx, http.MethodPost, "/api/v1/namespaces/"+one.namespace+"/events", "application/json", a.podEvent(one, name), nil)
		if answered(err) {
			a.pods.remember(name)
			if !is(err, http.StatusConflict) && err != nil {
				slog.Warn("a pod is not told why it was refused", "pod", one.namespace+"/"+one.name, "error", err)
			}
			continue
		}
		slog.Warn("pods are told later why they were refused", "error", err)
		return
	}
}

// event gives the name of the one for this hour.
func (r podRefusal) event(now time.Time) string {
	hour := now.UTC().Truncate(afresh).Format(time.RFC3339)
	sum := sha256.Sum256([]byte(strings.Join([]string{r.uid, r.image, r.code, hour}, "\x00")))
	return strings.TrimRight(r.name[:min(len(r.name), 200)], "-.") + "." + hex.EncodeToString(sum[:8])
}

func (p *pods) remember(name string) {
	if p.told == nil || len(p.told) >= maxRemembers {
		p.told = map[string]bool{} // the API server still knows
	}
	p.told[name] = true
}

func (a *agent) podEvent(one podRefusal, name string) map[string]any {
	now := time.Now().UTC().Format(time.RFC3339)
	return map[string]any{
		"apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": refusedEvent, "message": clean.Line(one.message, maxEvent),
		"metadata":       map[string]any{"name": name, "namespace": one.namespace, "annotations": map[string]string{Group + "/code": one.code}},
		"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": one.namespace, "name": one.name, "uid": one.uid},
		"source":         map[string]any{"component": component, "host": a.Node},
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	}
}
