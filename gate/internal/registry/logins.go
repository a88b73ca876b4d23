package registry

import (
	"context"
	"slices"
	"strings"
	"sync"

	"countersign/gate/internal/provider"
)

// logins are those of one look-up: of the Docker config, and of the credential
// providers for what that file has no entry for. The providers are run only once a
// host asks for a login.
type logins struct {
	file      credentials
	providers *provider.Providers // nil for none
	image     string              // the repository that is looked up
	byHost    map[string]*account // no other host is given a login, wherever a server leads to
}

// account is what one host is given.
type account struct {
	repository string // at that host

	asking  sync.Mutex // held while the providers are asked
	settled bool       // they have answered: there is no login

	mu    sync.Mutex
	login login
	notes []string // why the providers have none
}

func (a *account) get() (login, []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.login, a.notes
}

func (a *account) set(given login, notes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.login, a.notes = given, notes
}

// add gives what the Docker config has for a host where the image has that name, and
// keeps it.
func (l *logins) add(host, repository string) login {
	a := &account{repository: repository, login: l.file.forHost(repository, l.image)}
	l.byHost[host] = a
	return a.login
}

// want asks the providers for a host that wants a login which the Docker config does
// not have: by the image's name at that host, and then by its own. They are asked once,
// unless who asked gave up. An entry of that file that cannot be used counts as one: it
// is to be corrected.
func (l *logins) want(ctx context.Context, host string) {
	a := l.byHost[host]
	if a == nil || l.providers == nil {
		return
	}
	a.asking.Lock()
	defer a.asking.Unlock()
	if given, _ := a.get(); !given.empty() || a.settled {
		return
	}
	var notes []string
	for _, repository := range l.names(a) {
		found, ok, why := l.providers.Login(ctx, repository)
		if ok {
			a.set(login{user: found.User, secret: found.Password}, nil)
			return
		}
		notes = append(notes, why...)
	}
	slices.Sort(notes)
	a.set(login{}, slices.Compact(notes))
	a.settled = ctx.Err() == nil
}

// names are the names of the image that a login may be kept under.
func (l *logins) names(a *account) []string {
	if a.repository == l.image {
		return []string{l.image}
	}
	return []string{a.repository, l.image}
}

// of gives a host's login as containerd's authorizer takes it.
func (l *logins) of(host string) (user, secret string, err error) {
	a := l.byHost[host]
	if a == nil {
		return "", "", nil
	}
	given, _ := a.get()
	return given.user, given.secret, given.err
}

// hint says, of a host that refused the gate, why there is no login for it although
// the node has something that could have given one. Or "".
func (l *logins) hint(host string) string {
	a := l.byHost[host]
	if a == nil {
		return ""
	}
	given, hints := a.get()
	if kept := l.file.hint(a.repository, l.image); kept != "" && given.empty() {
		hints = append([]string{kept}, hints...)
	}
	return strings.Join(hints, "; ")
}
