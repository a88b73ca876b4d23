package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// NameKind is the kind of a name in a certificate's subject alternative name
// (RFC 5280, 4.2.1.6).
type NameKind string

// The kinds of names that a root can ask for. Other is Fulcio's name of a user who
// has neither an e-mail address nor a URI.
const (
	Email NameKind = "email"
	DNS   NameKind = "dns"
	URI   NameKind = "uri"
	Other NameKind = "other"
)

// Name is one name of a certificate.
type Name struct {
	Kind  NameKind
	Value string
}

// Subject is what a certificate's name must be: one name, or a glob over names of one
// kind in which '*' is any text without '/' and '**' any text. It matches the whole name.
type Subject struct {
	text    string
	kind    NameKind // "" for any
	pattern *regexp.Regexp
}

// String gives the subject as the policy has it.
func (s Subject) String() string { return s.text }

// Matches says whether the name is the subject's.
func (s Subject) Matches(name Name) bool {
	if s.kind != "" && s.kind != name.Kind {
		return false
	}
	if s.pattern == nil {
		return s.text == name.Value
	}
	return s.pattern.MatchString(name.Value)
}

// Before a wildcard a URI has its host and the first part of its path (the owner, where
// the host is a forge), for anybody can have a repository there; an e-mail address has
// its domain after every wildcard.
var (
	literalOwner  = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[^/*?#@]+/[^/*?#]+/`)
	literalDomain = regexp.MustCompile(`^[^@]*@[^@*/]*[^@*/.][^@*/]*\.[^@*/.]+$`)
)

// maxSubject bounds a subject, in bytes: it becomes a pattern that each name is held against.
const maxSubject = 1024

func parseSubject(text string) (Subject, error) {
	s := Subject{text: text, kind: kindOf(text)}
	switch {
	case text == "":
		return s, errors.New("empty")
	case len(text) > maxSubject:
		return s, fmt.Errorf("longer than %d bytes", maxSubject)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return s, errors.New("a blank or control character")
	case !strings.Contains(text, "*"):
		return s, nil
	case strings.Contains(text, "***"):
		return s, errors.New("three '*' in a row")
	case s.kind == URI && !literalOwner.MatchString(text):
		return s, errors.New("a wildcard in its host or in the first part of its path")
	case s.kind == Email && !literalDomain.MatchString(text):
		return s, errors.New("a wildcard in its domain")
	case s.kind == "":
		return s, errors.New("a wildcard in a name that is neither a URI nor an e-mail address")
	}
	s.pattern = globPattern(text)
	return s, nil
}

func kindOf(text string) NameKind {
	switch {
	case strings.Contains(text, "://"):
		return URI
	case strings.Contains(text, "@"):
		return Email
	}
	return ""
}

func globPattern(glob string) *regexp.Regexp {
	pattern := regexp.QuoteMeta(glob)
	pattern = strings.ReplaceAll(pattern, `\*\*`, `.*`)
	pattern = strings.ReplaceAll(pattern, `\*`, `[^/]*`)
	return regexp.MustCompile(`(?s)\A` + pattern + `\z`)
}
