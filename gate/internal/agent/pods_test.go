package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/verdict"
)

const uid = "0b6d2c6a-5d0d-4c7e-9a53-5a7d8a0f3b11"

func aRefusal(pod, uid string) verdict.Verdict {
	return verdict.Verdict{Layer: verdict.Create, Code: code.Unsigned, Image: "r.test/a:1", Pod: pod, PodUID: uid, Message: "countersign: refused r.test/a:1: UNSIGNED: nothing\x1b[31m"}
}

// events is an API server that keeps events by their names.
type events struct {
	status int // instead of keeping one
	asked  int
	kept   map[string]string
}

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.asked++
	content, _ := io.ReadAll(r.Body)
	if e.status != 0 {
		w.WriteHeader(e.status)
		return
	}
	if e.kept == nil {
		e.kept = map[string]string{}
	}
	var event struct{ Metadata struct{ Name string } }
	_ = json.Unmarshal(content, &event)
	name := r.URL.Path + " " + event.Metadata.Name
	if e.kept[name] != "" {
		w.WriteHeader(http.StatusConflict)
		return
	}
	e.kept[name] = string(content)
	fmt.Fprint(w, "{}")
}

func telling(t *testing.T, server *events) *agent {
	t.Helper()
	serving := httptest.NewServer(server)
	t.Cleanup(serving.Close)
	return newAgent(&API{URL: serving.URL, Token: func() (string, error) { return "", nil }, HTTP: serving.Client()}, &stub{})
}

func TestAPodIsToldOnceWhyItWasRefused(t *testing.T) {
	server := &events{}
	a := telling(t, server)
	for range 3 {
		a.pods.add(aRefusal("team/web-0", uid))
		a.tellPods(context.Background())
	}
	a.pods.told = nil // an agent that began anew
	a.pods.add(aRefusal("team/web-0", uid))
	a.tellPods(context.Background())
	if len(server.kept) != 1 || server.asked != 2 {
		t.Fatalf("%d events by %d requests", len(server.kept), server.asked)
	}
	for path, body := range server.kept {
		if !strings.HasPrefix(path, "/api/v1/namespaces/team/events ") || strings.Contains(body, `\u001b`) && !strings.Contains(body, `\\u001b`) {
			t.Errorf("%s: %s", path, body)
		}
		for _, part := range []string{`"reason":"ImageRefused"`, `"countersign.dev/code":"UNSIGNED"`, `"uid":"` + uid + `"`, "UNSIGNED: nothing"} {
			if !strings.Contains(body, part) {
				t.Errorf("without %s: %s", part, body)
			}
		}
	}
	another := aRefusal("team/web-0", uid)
	another.Code = code.Revoked
	a.pods.add(another)
	a.tellPods(context.Background())
	if len(server.kept) != 2 {
		t.Errorf("another code: %d events", len(server.kept))
	}
}

// Who may write annotations past the kubelet names no path of the API server.
func TestOnlyAPodOfTheClusterIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		pod, uid string
		told     int
	}{
		"a pod":              {"team/web-0", uid, 1},
		"a static pod":       {"kube-system/etcd-n1", strings.ReplaceAll(uid, "-", ""), 1},
		"none":               {"", "", 0},
		"no UID":             {"team/web-0", "", 0},
		"a path":             {"../../../x/web-0", uid, 0},
		"a path for a name":  {"team/../../x", uid, 0},
		"a query":            {"team?x=/web-0", uid, 0},
		"another form of ID": {"team/web-0", strings.Repeat("x", 36), 0},
		"a name too long":    {"team/" + strings.Repeat("a", 254), uid, 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := &events{}
			a := telling(t, server)
			a.pods.add(aRefusal(c.pod, c.uid))
			a.tellPods(context.Background())
			if server.asked != c.told {
				t.Errorf("%d requests, expected %d", server.asked, c.told)
			}
		})
	}
}

func TestManyRefusalsAreToldFewAtATime(t *testing.T) {
	server := &events{}
	a := telling(t, server)
	for i := range 10 * maxWaiting {
		a.pods.add(aRefusal(fmt.Sprintf("team/web-%d", i), uid))
	}
	if len(a.pods.waiting) != maxWaiting {
		t.Errorf("%d wait", len(a.pods.waiting))
	}
	a.tellPods(context.Background())
	if server.asked != maxAtOnce || len(a.pods.waiting) != maxWaiting-maxAtOnce {
		t.Errorf("%d requests, %d wait", server.asked, len(a.pods.waiting))
	}
}

func TestPodsAreToldLaterWhereTheAPIServerIsAway(t *testing.T) {
	for status, waits := range map[int]int{
		http.StatusServiceUnavailable: 2, http.StatusTooManyRequests: 2, http.StatusForbidden: 0, http.StatusNotFound: 0, 0: 0,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			server := &events{status: status}
			a := telling(t, server)
			a.pods.add(aRefusal("team/web-0", uid))
			a.pods.add(aRefusal("gone/web-1", uid))
			a.tellPods(context.Background())
			if len(a.pods.waiting) != waits {
				t.Errorf("%d wait, expected %d", len(a.pods.waiting), waits)
			}
		})
	}
}

func TestAnEventsNameIsOneForTheHour(t *testing.T) {
	one := podRefusal{name: strings.Repeat("a.", 126) + "a", uid: uid, image: "i", code: "UNSIGNED"}
	at := time.Date(2026, 1, 1, 10, 59, 0, 0, time.UTC)
	if one.event(at) != one.event(at.Add(-time.Minute)) || one.event(at) == one.event(at.Add(time.Minute)) {
		t.Error("not one an hour")
	}
	if name := one.event(at); len(name) > 253 || !podName.MatchString(name) {
		t.Errorf("%q is no name", name)
	}
}
