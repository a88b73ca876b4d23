package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// login is one entry of "auths".
type login struct {
	name   string // its key, as written
	user   string // "" beside a refresh token
	secret string // a password, or a refresh token
	bearer string // a token that goes to the registry itself
	err    error  // why the entry cannot be used; tells no secret
}

func (l login) empty() bool { return l.secret == "" && l.bearer == "" && l.err == nil }

// before says which of two entries counts whose keys mean the same: one that can
// be used, and then the one whose key comes first, so that it is always the same.
func (l login) before(other login) bool {
	rank := func(l login) int {
		switch {
		case l.err != nil:
			return 1
		case l.empty():
			return 2
		}
		return 0
	}
	return cmp.Or(rank(l)-rank(other), cmp.Compare(l.name, other.name)) < 0
}

// readLogin reads one entry of "auths". What it takes is what Docker's client,
// cosign and containers/image take between them.
func readLogin(name string, raw json.RawMessage) login {
	var entry struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	}
	l := login{name: name}
	if json.Unmarshal(raw, &entry) != nil { // whose error could quote a password
		l.err = fmt.Errorf("the entry auths.%q is not an object of strings", name)
		return l
	}
	if strings.ContainsFunc(entry.RegistryToken, func(r rune) bool { return r < '!' || r > '~' }) { // no header carries it
		l.err = fmt.Errorf("the entry auths.%q has a registrytoken that is not a token", name)
		return l
	}
	l.user, l.secret, l.bearer = entry.Username, entry.Password, entry.RegistryToken
	if auth := strings.TrimSpace(entry.Auth); auth != "" {
		user, password, ok := decodeAuth(auth)
		if !ok && entry.IdentityToken == "" && entry.RegistryToken == "" {
			l.err = fmt.Errorf("the entry auths.%q has an auth that is not base64 of user:password", name)
			return l
		}
		l.user, l.secret = user, password
	}
	if entry.IdentityToken != "" {
		l.user, l.secret = "", entry.IdentityToken
	}
	return l
}

// decodeAuth reads base64 of user:password, in either alphabet, padded or not.
func decodeAuth(auth string) (user, password string, ok bool) {
	auth = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(auth, "="))
	decoded, err := base64.RawStdEncoding.DecodeString(auth)
	user, password, ok = strings.Cut(string(decoded), ":")
	return user, strings.Trim(password, "\x00"), err == nil && ok && user != ""
}

// bearerAuthorizer sends a token that was issued beforehand ("registrytoken"),
// once the host has asked for one. It asks no token server.
type bearerAuthorizer struct {
	token string
	asked bool
}

// Authorize implements docker.Authorizer.
func (b *bearerAuthorizer) Authorize(_ context.Context, req *http.Request) error {
	if b.asked {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

// AddResponses implements docker.Authorizer.
func (b *bearerAuthorizer) AddResponses(_ context.Context, responses []*http.Response) error {
	if responses[len(responses)-1].Request.Header.Get("Authorization") != "" {
		return errors.New("it does not take the registrytoken")
	}
	b.asked = true
	return nil
}
