package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/testsign"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// rule is what a case's policy says of the place's repository.
type rule struct {
	scopes  map[string]any
	pinned  []string
	revoked []string // digests
}

// judged is one case of the corpus.
type judged struct {
	name string
	sign func(*place, testsign.Pusher) // what the registry has beside the image; the place's own bundle is not there
	rule func(*place, string) rule     // nil: a signature by the place's key is wanted
	want code.Code
}

func corpus(t *testing.T) []judged {
	other := testsign.NewKey(t)
	bundle := func(p *place, to testsign.Pusher) {
		to.Bundles(t, p.image.Manifest, false, testsign.Bundle(t, p.key, p.image.Manifest))
	}
	attach := func(key func(*place) testsign.Key, in string, of func(*place) string) func(*place, testsign.Pusher) {
		return func(p *place, to testsign.Pusher) {
			repository := strings.TrimSuffix(p.name, ":v1") + in
			to.Attachments(t, p.image.Manifest, testsign.Attachment(t, key(p), repository, of(p)))
		}
	}
	own, stranger := func(p *place) testsign.Key { return p.key }, func(*place) testsign.Key { return other }
	image, another := func(p *place) string { return p.image.Manifest }, func(*place) string { return testsign.Digest([]byte("another")) }
	nothing := func(*place, testsign.Pusher) {}
	says := func(what any) func(*place, string) rule {
		return func(_ *place, repository string) rule { return rule{scopes: map[string]any{repository: what}} }
	}
	return []judged{
		{"a bundle", bundle, nil, code.OK},
		{"an attachment", attach(own, "", image), nil, code.OK},
		{"a bad signature beside a good one", func(p *place, to testsign.Pusher) {
			attach(stranger, "", image)(p, to)
			bundle(p, to)
		}, nil, code.OK},
		{"nothing", nothing, nil, code.Unsigned},
		{"an attachment by another key", attach(stranger, "", image), nil, code.BadSignature},
		{"a bundle by another key", func(p *place, to testsign.Pusher) {
			to.Bundles(t, p.image.Manifest, false, testsign.Bundle(t, other, p.image.Manifest))
		}, nil, code.BadSignature},
		{"an attachment for another image", attach(own, "", another), nil, code.OtherImage},
		{"an attachment for another repository", attach(own, "2", image), nil, code.OtherImage},
		{"a bundle that cannot be read", func(p *place, to testsign.Pusher) { to.Referrer(t, p.image.Manifest, testsign.BundleType, []byte("{")) }, nil, code.Malformed},
		{"an accepted scope", nothing, says(map[string]bool{"accept": true}), code.AcceptedByScope},
		{"a rejected scope", bundle, says(map[string]bool{"reject": true}), code.RejectedByScope},
		{"no scope", bundle, func(*place, string) rule { return rule{scopes: map[string]any{}} }, code.NoScope},
		{"a pinned digest", nothing, func(p *place, repository string) rule {
			return rule{scopes: map[string]any{repository: map[string]bool{"reject": true}}, pinned: []string{repository + "@" + p.image.Manifest}}
		}, code.PinnedDigest},
		{"a revoked digest", bundle, func(p *place, repository string) rule {
			return rule{scopes: map[string]any{repository: map[string]bool{"accept": true}}, revoked: []string{p.image.Manifest}}
		}, code.Revoked},
	}
}

// One corpus, asked in every way: the gate's socket, the command line where no gate
// runs, verify by a policy, and verify of image layouts. They say the same, word for
// word and step for step.
func TestAllWaysSayTheSame(t *testing.T) {
	for _, c := range corpus(t) {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			pusher := p.empty()
			c.sign(p, pusher)
			policy := p.ruled(c.rule)
			socket := p.asked()
			if socket.Code != c.want || socket.Allow != c.want.Allows() {
				t.Fatalf("got %s, expected %s", socket.Message, c.want)
			}
			exit := exitRefused
			if socket.Allow {
				exit = exitOK
			}
			for _, way := range []struct {
				name string
				args []string
			}{
				{"the command line", []string{"--config", p.config}},
				{"verify", []string{"--policy", policy}},
				{"a layout as cosign saves it", []string{"--policy", policy, "--layout", pusher.Layout(t, p.image.Manifest, true)}},
				{"a layout that lists all", []string{"--policy", policy, "--layout", pusher.Layout(t, p.image.Manifest, false)}},
			} {
				if err := os.RemoveAll(p.settings.Evidence.Dir); err != nil { // so that all look the evidence up
					t.Fatal(err)
				}
				if got, want := plain(t, p.verdict(exit, way.args...)), plain(t, socket); got != want {
					t.Errorf("%s:\n%s\nthe socket:\n%s", way.name, got, want)
				}
			}
		})
	}
}

// empty puts the image alone into a new registry behind the place's name.
func (p *place) empty() testsign.Pusher {
	p.t.Helper()
	p.registry.Handler = testsign.Handler(true)
	pusher := testsign.Pusher{Handler: p.registry.Handler, Path: "demo/app"}
	pusher.Blob(p.t, p.node.Blobs[p.image.Config])
	pusher.Manifest(p.t, p.node.Blobs[p.image.Manifest], ocispec.MediaTypeImageManifest, "v1")
	return pusher
}

// ruled writes the policy of a case.
func (p *place) ruled(of func(*place, string) rule) string {
	p.t.Helper()
	if of == nil {
		return p.policy(p.key)
	}
	r := of(p, strings.TrimSuffix(p.name, ":v1"))
	return p.write("policy.json", map[string]any{
		"version": "countersign.policy/v1", "pinned": append([]string{}, r.pinned...), "scopes": r.scopes,
		"roots":   map[string]any{"k": map[string]any{"publicKey": map[string]any{"keys": []string{p.key.PEM}}}},
		"revoked": map[string]any{"keys": []string{}, "certificates": []string{}, "digests": append([]string{}, r.revoked...)},
	})
}

// asked has a gate that runs for this alone decide, through its socket.
func (p *place) asked() *verdict.Verdict {
	p.t.Helper()
	stop := p.start()
	defer stop()
	v, err := wire.Call(context.Background(), p.settings.Socket, wire.Verify, wire.NameRequest{Name: p.name})
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// plain gives a verdict as JSON without what differs from run to run, and without
// what it was read from: a folder is not a registry.
func plain(t *testing.T, v *verdict.Verdict) string {
	t.Helper()
	same := *v
	same.Time, same.Millis, same.Steps = time.Time{}, 0, nil
	if same.Source == fromLayout {
		same.Source = "registry"
	}
	for _, step := range v.Steps {
		step.Millis = 0
		if v.Allow && step.Name == "evidence in the registry" {
			step.Outcome = "" // how much had come when it was enough
		}
		same.Steps = append(same.Steps, step)
	}
	content, err := json.MarshalIndent(same, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
