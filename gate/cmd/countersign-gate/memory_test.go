//go:build load

package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/wire"
)

// What the real daemon takes, as a process of its own, while 32 clients at its
// socket ask for what a hostile registry answers, and how long honest verdicts take
// beside them. Run it with:
//
//	go test -tags load,containers_image_openpgp ./cmd/countersign-gate -run TestMemory -v

const (
	hostileClients = 32
	hostileImages  = 200
	seconds        = 5
	residentGoal   = 64 << 10 // KiB, as /proc counts
	honestGoal     = 50 * time.Millisecond
)

// bombs are answers to the look-up of an attachment, each within the bounds on input.
var bombs = map[string]func() string{
	"annotations": func() string {
		var b strings.Builder
		b.WriteString(`{"layers":[],"annotations":{"":""`)
		for i := 0; b.Len() < 4<<20-40; i++ {
			fmt.Fprintf(&b, `,"%x":""`, i)
		}
		return b.String() + "}}"
	},
	"layers":     func() string { return `{"layers":[{}` + strings.Repeat(",{}", 4<<18) + `]}` },
	"nesting":    func() string { return `{"layers":` + strings.Repeat("[", 4<<20-100) },
	"no-json":    func() string { return strings.Repeat("\x1b", 4<<20) },
	"endless":    func() string { return strings.Repeat(" ", 64<<20) },
	"error-body": func() string { return `{"errors":[{"message":"` + strings.Repeat("\u202e", 1<<20) + `"}]}` },
}

func TestMemoryUnderHostileAnswers(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(bombs)) {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			ours := strings.TrimPrefix(p.image.Manifest, "sha256:")
			honest, body := p.registry.Handler, bombs[name]()
			p.registry.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/manifests/sha256-") && !strings.Contains(r.URL.Path, ours) {
					w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
					_, _ = w.Write([]byte(body))
					return
				}
				honest.ServeHTTP(w, r)
			})
			repository, _, _ := strings.Cut(p.name, ":v1")
			var names []string
			pusher := testsign.Pusher{Handler: honest, Path: "demo/app"}
			for i := range hostileImages {
				manifest := strings.Replace(string(p.node.Blobs[p.image.Manifest]), "{", fmt.Sprintf(`{"annotations":{"n":"%d"},`, i), 1)
				names = append(names, repository+"@"+pusher.Manifest(t, []byte(manifest), ocispec.MediaTypeImageManifest, ""))
			}
			m := p.managed()
			state := fakecontainerd.State(t, container, p.name)
			p.want(p.create(), code.OK)
			ctx, cancel := context.WithTimeout(context.Background(), seconds*time.Second)
			defer cancel()
			var clients sync.WaitGroup
			for i := range hostileClients {
				clients.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						name := names[(i+n*hostileClients)%len(names)]
						if v, err := wire.Call(context.Background(), p.settings.Socket, wire.Verify, wire.NameRequest{Name: name}); err == nil && v.Allow {
							t.Errorf("allowed: %+v", v)
						}
					}
				})
			}
			var took []time.Duration
			refused := 0
			for ctx.Err() == nil {
				start := time.Now()
				v, err := wire.Call(context.Background(), p.settings.Socket, wire.Create, state)
				if err != nil || v.Code != code.OK {
					refused++
				}
				took = append(took, time.Since(start))
				time.Sleep(5 * time.Millisecond)
			}
			clients.Wait()
			slices.Sort(took)
			resident, p99 := m.peak(), took[len(took)*99/100]
			t.Logf("VmHWM %d MiB, honest verdicts: %d, %d refused, p99 %s", resident>>10, len(took), refused, p99)
			if resident > residentGoal || p99 > honestGoal || refused > 0 {
				t.Errorf("expected %d MiB and %s at most, and none refused", residentGoal>>10, honestGoal)
			}
		})
	}
}

// peak gives the most that the gate has had resident, in KiB.
func (m *manager) peak() int {
	m.t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m.pid), "status"))
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				m.t.Fatal(err)
			}
			return kib
		}
	}
	m.t.Fatal("no VmHWM")
	return 0
}
