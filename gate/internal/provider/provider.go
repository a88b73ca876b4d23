// Package provider gets registry logins from the kubelet's credential providers
// (KEP-2133): programs on the node that the kubelet's CredentialProviderConfig
// names, asked over stdin and stdout.
//
// The gate runs nothing else that it did not bring. What it runs is a file of root's
// below one folder, with a deadline and bounds; see docs/adr/0022.
package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Config says where the kubelet's own settings lie.
type Config struct {
	Config string // a CredentialProviderConfig, or a folder of them (--image-credential-provider-config)
	BinDir string // the programs (--image-credential-provider-bin-dir)
}

// Login is what a registry is given.
type Login struct {
	User     string
	Password string
}

// Providers runs the programs, and remembers what they answered. It is safe for any
// number of goroutines.
type Providers struct {
	config Config
	memory *memory
}

// New makes the providers of a node. The settings are read anew whenever a login is
// wanted.
func New(config Config) *Providers {
	return &Providers{config: config, memory: newMemory()}
}

// Login gives the login that the kubelet would try first for an image in
// repository, which is host/path, and ok if there is one. If there is none, notes
// say of each provider for that image why; they tell no secret.
//
// A provider that wants a pod's token (KEP-4412) is not run: evidence is looked up
// for an image, before any pod has a token here.
func (p *Providers) Login(ctx context.Context, repository string) (login Login, ok bool, notes []string) {
	all, err := readSettings(p.config.Config)
	if err != nil {
		return Login{}, false, []string{"the credential providers cannot be used: " + err.Error()}
	}
	var wanted []settings
	for _, s := range all {
		switch {
		case !matchesAny(s.MatchImages, repository):
		case s.TokenAttributes != nil:
			notes = append(notes, fmt.Sprintf("the credential provider %q needs a pod's token (tokenAttributes): it is not to be had for evidence", s.Name))
		default:
			wanted = append(wanted, s)
		}
	}
	answers := make([]answer, len(wanted))
	failures := make([]error, len(wanted))
	var wait sync.WaitGroup
	for i, s := range wanted {
		wait.Go(func() { answers[i], failures[i] = p.query(ctx, s, repository) })
	}
	wait.Wait()
	for i, s := range wanted {
		if failures[i] != nil {
			notes = append(notes, fmt.Sprintf("the credential provider %q %v", s.Name, failures[i]))
		} else if _, found := answers[i].login(repository); !found {
			notes = append(notes, fmt.Sprintf("the credential provider %q has no login for %s", s.Name, repository))
		}
	}
	if login, ok = first(answers, repository); ok {
		return login, true, nil
	}
	return Login{}, false, notes
}

// query gives one provider's answer: a remembered one, or that of a run, which is
// shared by all who need it.
func (p *Providers) query(ctx context.Context, s settings, image string) (answer, error) {
	program, err := findProgram(p.config.BinDir, s.Name)
	if err != nil {
		return answer{}, err
	}
	return p.memory.get(ctx, s, image, func(ctx context.Context) (answer, error) {
		return program.run(ctx, s, image)
	})
}

// first gives the login that counts among several answers: that of the first key in
// the kubelet's order, and of the earlier provider where several have that key.
func first(answers []answer, image string) (Login, bool) {
	best, login := "", Login{}
	for _, a := range answers {
		if key, found := a.login(image); found && (best == "" || compareKeys(key, best) < 0) {
			best, login = key, a.auth[key]
		}
	}
	return login, best != ""
}

// answer is what a provider said.
type answer struct {
	auth map[string]Login // by plain key
	kind string           // of the images that it holds for
	ends time.Time        // when it is to be forgotten
}

// login gives the first key, in the kubelet's order, that leads to image.
func (a answer) login(image string) (key string, found bool) {
	var keys []string
	for pattern := range a.auth {
		if leadsTo(pattern, image) {
			keys = append(keys, pattern)
		}
	}
	if len(keys) == 0 {
		return "", false
	}
	return slices.MinFunc(keys, compareKeys), true
}

var errLate = errors.New("did not answer in time")
