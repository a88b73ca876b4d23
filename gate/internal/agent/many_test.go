//go:build load

package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counted counts what all agents ask of the API server, by method and kind of object.
type counted struct {
	next http.RoundTripper
	mu   *sync.Mutex
	of   map[string]int
}

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := "other"
	for _, one := range []string{"countersignpolicies", "countersignnodes", "events", "nodes"} {
		if strings.Contains(r.URL.Path, "/"+one) {
			kind = one
			break
		}
	}
	verb := r.Method
	if r.URL.Query().Has("watch") {
		verb = "WATCH"
	}
	c.mu.Lock()
	c.of[verb+" "+kind]++
	c.mu.Unlock()
	return c.next.RoundTrip(r)
}

// taking is a host that says when it took a policy.
type taking struct {
	stub
	serial atomic.Int64
	took   atomic.Int64 // ns
}

func (n *taking) InstallPolicy(_ context.Context, p Policy) error {
	var form struct{ Serial int64 }
	if err := json.Unmarshal(p.Content, &form); err != nil {
		return err
	}
	n.took.Store(time.Now().UnixNano())
	n.serial.Store(form.Serial)
	return nil
}

// TestManyAgents has the agents of so many nodes (COUNTERSIGN_NODES) follow one policy at
// a real API server with its etcd (programs in COUNTERSIGN_KUBERNETES: kube-apiserver and
// etcd as "server"), and counts what a new policy has them ask. Their hosts only take
// policies.
func TestManyAgents(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("COUNTERSIGN_NODES"))
	programs := os.Getenv("COUNTERSIGN_KUBERNETES")
	if err != nil || programs == "" {
		t.Skip("needs COUNTERSIGN_NODES, a number, and COUNTERSIGN_KUBERNETES, a folder")
	}
	url := serveAPI(t, programs)
	c := counted{mu: new(sync.Mutex), of: map[string]int{}}
	client := func() *http.Client {
		return &http.Client{Transport: counted{&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, c.mu, c.of}} //nolint:gosec // it is ours, and on loopback
	}
	admin := &API{URL: url, Token: func() (string, error) { return "load", nil }, HTTP: client()}
	objectsFor(t, admin, count)
	setPolicy(t, admin, 1)

	hosts := make([]*taking, count)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range hosts {
		hosts[i] = &taking{}
		api := &API{URL: url, Token: admin.Token, HTTP: client()}
		o := Options{API: api, Node: fmt.Sprintf("n%04d", i), Namespace: "default", Policies: true, Every: 30 * time.Second, Prove: time.Hour, Effect: "NoSchedule", Host: hosts[i]}
		running.Go(func() { _ = Run(ctx, o) })
		time.Sleep(30 * time.Millisecond) // nodes do not all start at once
	}
	defer func() { cancel(); running.Wait() }()
	since := func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		text, err := json.Marshal(c.of)
		if err != nil {
			t.Fatal(err)
		}
		clear(c.of)
		return string(text)
	}
	began := time.Now()
	allTake(t, hosts, 1)
	t.Logf("%d agents begin: the last has the policy after %.1f s; %s", count, time.Since(began).Seconds(), since())
	time.Sleep(10 * time.Second) // what follows a beginning
	since()
	time.Sleep(30 * time.Second)
	t.Logf("30 s at rest: %s", since())
	for serial := int64(2); serial < 5; serial++ {
		began = time.Now()
		setPolicy(t, admin, serial)
		last := allTake(t, hosts, serial)
		time.Sleep(10 * time.Second) // what follows
		t.Logf("policy %d: the last of %d agents has it after %.2f s; within 10 s more: %s", serial, count, last.Sub(began).Seconds(), since())
	}
}

// allTake waits until all hosts have a policy, and says when the last took it.
func allTake(t *testing.T, hosts []*taking, serial int64) (last time.Time) {
	t.Helper()
	for deadline := time.Now().Add(8 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		have := 0
		for _, host := range hosts {
			if host.serial.Load() == serial {
				have++
				if took := time.Unix(0, host.took.Load()); took.After(last) {
					last = took
				}
			}
		}
		if have == len(hosts) {
			return last
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d have policy %d", have, len(hosts), serial)
		}
	}
}

func setPolicy(t *testing.T, admin *API, serial int64) {
	t.Helper()
	policy := map[string]any{"apiVersion": version, "kind": "CountersignPolicy", "metadata": map[string]any{"name": "fleet"},
		"spec": map[string]any{"serial": serial, "scopes": map[string]any{"r.test": map[string]any{"accept": true}}}}
	if err := admin.apply(t.Context(), policies+"/fleet", policy); err != nil {
		t.Fatal(err)
	}
}

// objectsFor makes the kinds and the nodes.
func objectsFor(t *testing.T, admin *API, count int) {
	t.Helper()
	files, err := filepath.Glob("../../../rollout/chart/crds/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no CustomResourceDefinitions: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, admin.URL+"/apis/apiextensions.k8s.io/v1/customresourcedefinitions", bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer load")
		request.Header.Set("Content-Type", "application/yaml")
		answer, err := admin.HTTP.Do(request)
		if err != nil || answer.StatusCode/100 != 2 {
			t.Fatalf("%s: %v %v", file, answer, err)
		}
		answer.Body.Close()
	}
	var made sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range count {
		made.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			node := map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": fmt.Sprintf("n%04d", i)}}
			if err := admin.do(t.Context(), http.MethodPost, "/api/v1/nodes", "application/json", node, nil); err != nil {
				t.Error(err)
			}
		})
	}
	made.Wait()
	for deadline := time.Now().Add(time.Minute); admin.get(t.Context(), policies, nil) != nil || admin.get(t.Context(), nodes, nil) != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the API server does not know the kinds")
		}
	}
}

// serveAPI runs an API server with its etcd, and gives its URL.
func serveAPI(t *testing.T, programs string) string {
	t.Helper()
	dir := t.TempDir()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	store, peer, server := free(), free(), free()
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte("load,load,load,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "accounts.key")
	if out, err := exec.Command("openssl", "genrsa", "-out", key, "2048").CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	_, port, _ := net.SplitHostPort(server)
	run := func(name string, arguments ...string) {
		log, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command(filepath.Join(programs, name), arguments...)
		command.Stdout, command.Stderr = log, log
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	}
	run("server", "--data-dir="+dir+"/etcd", "--unsafe-no-fsync", "--log-level=error", "--listen-client-urls=http://"+store,
		"--advertise-client-urls=http://"+store, "--listen-peer-urls=http://"+peer)
	run("kube-apiserver", "--etcd-servers=http://"+store, "--bind-address=127.0.0.1", "--secure-port="+port, "--cert-dir="+dir+"/certs",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key, "--service-account-issuer=https://load", "--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC", "--token-auth-file="+tokens, "--disable-admission-plugins=ServiceAccount")
	api := &API{URL: "https://" + server, Token: func() (string, error) { return "load", nil },
		HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}} //nolint:gosec // as above
	for deadline := time.Now().Add(2 * time.Minute); api.do(t.Context(), http.MethodGet, "/api/v1/nodes", "", nil, nil) != nil; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the API server does not answer")
		}
	}
	return api.URL
}
