//go:build load

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
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
// beside them. Clients and registry are a process of their own, as they are on a node,
// and so is what stands in for them where only the CPU is to be busy: what honest
// verdicts take beside that is the machine's share. Run it with:
//
//	go test -tags load,containers_image_openpgp ./cmd/countersign-gate -run TestMemory -v

const (
	hostileClients = 32
	hostileImages  = 200
	honestImages   = 120
	rounds         = 2 // of each side
	seconds        = 4
	residentGoal   = 64 << 10 // KiB, as /proc counts
	honestGoal     = 50 * time.Millisecond

	hostileEnv = "COUNTERSIGN_TEST_HOSTILE" // which side a process is: a bomb's name, burn or idle
	socketEnv  = "COUNTERSIGN_TEST_SOCKET"
	burn       = "burn"
	idle       = "idle"
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

// TestHostileSide is the process that attacks, or only keeps the CPU busy.
func TestHostileSide(t *testing.T) {
	side := os.Getenv(hostileEnv)
	if side == "" {
		t.Skip("it is a process of TestMemoryUnderHostileAnswers")
	}
	said := os.NewFile(3, "said")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	work := map[string]func(){
		idle: func() { <-ctx.Done() },
		burn: func() {
			for range runtime.GOMAXPROCS(0) - 1 {
				go spin(ctx)
			}
			spin(ctx)
		},
	}[side]
	host := "nobody.example"
	if work == nil {
		registry := testsign.Handler(true)
		var names []string
		host, names = hostileRegistry(t, registry, bombs[side]())
		work = func() { attackers(ctx, t, names) }
	}
	fmt.Fprintln(said, host)
	from := bufio.NewReader(os.Stdin)
	if _, err := from.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, from) // until the parent ends it
		cancel()
	}()
	work()
}

func spin(ctx context.Context) {
	for ctx.Err() == nil {
	}
}

// hostileRegistry serves images whose signatures are a bomb.
func hostileRegistry(t *testing.T, registry http.Handler, body string) (host string, names []string) {
	host = testsign.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/sha256-") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = io.WriteString(w, body)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	pusher := testsign.Pusher{Handler: registry, Path: "demo/app"}
	for i := range hostileImages {
		manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"annotations":{"n":"%d"},"config":{"mediaType":%q,"digest":"sha256:%064d","size":2},"layers":[]}`,
			ocispec.MediaTypeImageManifest, i, ocispec.MediaTypeImageConfig, i)
		names = append(names, host+"/demo/app@"+pusher.Manifest(t, []byte(manifest), ocispec.MediaTypeImageManifest, ""))
	}
	return host, names
}

func attackers(ctx context.Context, t *testing.T, names []string) {
	var clients sync.WaitGroup
	for i := range hostileClients {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := names[(i+n*hostileClients)%len(names)]
				if v, err := wire.Call(context.Background(), os.Getenv(socketEnv), wire.Verify, wire.NameRequest{Name: name}); err == nil && v.Allow {
					t.Errorf("allowed: %+v", v)
				}
			}
		})
	}
	clients.Wait()
}

// beside is a process beside the gate.
type beside struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	host    string
}

func (p *place) beside(side string) *beside {
	p.t.Helper()
	b := &beside{command: exec.Command(os.Args[0], "-test.run", "^TestHostileSide$", "-test.timeout", "5m")}
	b.command.Env = append(os.Environ(), hostileEnv+"="+side, socketEnv+"="+p.settings.Socket)
	b.command.Stderr = os.Stderr
	said, end, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	defer said.Close()
	b.command.ExtraFiles = []*os.File{end}
	if b.stdin, err = b.command.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	if err := b.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	end.Close()
	host, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	b.host = strings.TrimSpace(host)
	return b
}

func (b *beside) begin(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(b.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
}

func (b *beside) end(t *testing.T) {
	t.Helper()
	b.stdin.Close()
	if err := b.command.Wait(); err != nil {
		t.Error(err)
	}
}

// honest are the verdicts on containers whose image is signed.
type honest struct {
	remembered, stored []time.Duration // what their clients waited
	inside             []time.Duration // what the gate says that remembered ones took
	refused            int
}

// judged has containers judged for a while: one whose outcome is remembered, and in
// between others, each for the first time since this gate runs, whose evidence is on the node.
func (p *place) judged(h *honest, others [][]byte) {
	state := fakecontainerd.State(p.t, container, p.name)
	ask := func(state []byte) (waited, inside time.Duration) {
		start := time.Now()
		v, err := wire.Call(context.Background(), p.settings.Socket, wire.Create, state)
		if err != nil || v.Code != code.OK {
			h.refused++
			return time.Since(start), 0
		}
		return time.Since(start), time.Duration(float64(v.Millis) * float64(time.Millisecond))
	}
	for n, end := 0, time.Now().Add(seconds*time.Second); time.Now().Before(end); n++ {
		waited, inside := ask(state)
		h.remembered, h.inside = append(h.remembered, waited), append(h.inside, inside)
		if n%4 == 0 && n/4 < len(others) {
			waited, _ = ask(others[n/4])
			h.stored = append(h.stored, waited)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (h *honest) String() string {
	return fmt.Sprintf("remembered %s, in the gate %s; from the store %s; %d refused", spread(h.remembered), spread(h.inside), spread(h.stored), h.refused)
}

func spread(took []time.Duration) string {
	return fmt.Sprintf("(%d) p50 %s p99 %s", len(took), percentile(took, 50).Round(10*time.Microsecond), percentile(took, 99).Round(10*time.Microsecond))
}

func percentile(took []time.Duration, percent int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[len(sorted)*percent/100]
}

// TestMemoryUnderHostileAnswers has each round of an attack between rounds beside a
// busy CPU alone, with a gate of its own each.
func TestMemoryUnderHostileAnswers(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(bombs)) {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			others := p.others(honestImages)
			attacked, burnt, resident := &honest{}, &honest{}, 0
			for range rounds {
				for side, h := range map[string]*honest{name: attacked, burn: burnt} {
					b := p.beside(side)
					p.both(b.host)
					m := p.managed()
					p.want(p.create(), code.OK)
					b.begin(t)
					p.judged(h, others)
					b.end(t)
					if side == name {
						resident = max(resident, m.peak())
					}
					m.end(syscall.SIGTERM)
				}
			}
			t.Logf("VmHWM %d MiB", resident>>10)
			t.Logf("attacked: %s", attacked)
			t.Logf("busy CPU: %s", burnt)
			if p99 := percentile(attacked.remembered, 99); resident > residentGoal || p99 > honestGoal || attacked.refused > 0 {
				t.Errorf("expected %d MiB and %s at most, and none refused", residentGoal>>10, honestGoal)
			}
		})
	}
}

// others makes containers of further signed images, whose evidence the node gets.
func (p *place) others(n int) (states [][]byte) {
	m := p.managed()
	pusher := testsign.Pusher{Handler: p.registry.Handler, Path: "demo/app"}
	for i := range n {
		image := p.node.Image(p.t, "layer", fmt.Sprintf("other %d", i))
		pusher.Manifest(p.t, p.node.Blobs[image.Manifest], ocispec.MediaTypeImageManifest, "")
		pusher.Bundles(p.t, image.Manifest, false, testsign.Bundle(p.t, p.key, image.Manifest))
		id, name := fmt.Sprintf("0ther%d", i), fmt.Sprintf("%s:o%d", p.repository(), i)
		p.node.Images[name] = image.Target()
		p.node.Create(p.t, fakecontainerd.Container{ID: id, Name: name, Image: image})
		state := fakecontainerd.State(p.t, id, name)
		v, err := wire.Call(context.Background(), p.settings.Socket, wire.Create, state)
		if err != nil {
			p.t.Fatal(err)
		}
		p.want(v, code.OK)
		states = append(states, state)
	}
	m.end(syscall.SIGTERM)
	return states
}

// both has a policy that asks for signatures in the hostile registry too.
func (p *place) both(host string) {
	rule := map[string]any{"anyOf": []string{"k"}}
	p.write("policy.json", map[string]any{
		"version": "countersign.policy/v1", "pinned": []string{},
		"roots":   map[string]any{"k": map[string]any{"publicKey": map[string]any{"keys": []string{p.key.PEM}}}},
		"scopes":  map[string]any{p.repository(): rule, host + "/demo/app": rule},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": []string{}},
	})
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
