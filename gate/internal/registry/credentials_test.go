package registry

import (
	"encoding/base64"
	"strings"
	"testing"
)

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func parse(t *testing.T, text string) credentials {
	t.Helper()
	c, err := parseCredentials([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c.path = "docker.json"
	return c
}

func TestTheLongestKeyCounts(t *testing.T) {
	const file = `{"auths":{
		"registry.example":{"username":"host","password":"p"},
		"registry.example/org":{"username":"org","password":"p"},
		"registry.example/org/app":{"username":"app","password":"p"},
		"registry.example/empty":{},
		"https://url.example/org":{"username":"url","password":"p"},
		"slash.example/v1/":{"username":"api","password":"p"},
		"path.example/v1":{"username":"v1","password":"p"},
		"https://index.docker.io":{"username":"hub","password":"p"},
		"docker.io/team":{"username":"team","password":"p"},
		"twice.example":{},
		"http://twice.example/v2/":{"username":"b","password":"p"},
		"https://twice.example/":{"username":"c","password":"p"}}}`
	for repository, want := range map[string]string{
		"registry.example/other":         "host",
		"registry.example/organisation":  "host",
		"registry.example/org":           "org",
		"registry.example/org/other":     "org",
		"registry.example/org/app":       "app",
		"registry.example/org/app/deep":  "app",
		"registry.example/empty/app":     "", // as containers/image: the entry counts
		"registry.example:5000/org/app":  "",
		"url.example/other":              "url",
		"slash.example/any":              "api",
		"path.example/v1/app":            "v1",
		"path.example/other":             "",
		"docker.io/library/alpine":       "hub",
		"index.docker.io/library/alpine": "hub",
		"registry-1.docker.io/team/app":  "team",
		"twice.example/app":              "b",
		"none.example/app":               "",
	} {
		for range 20 { // maps are in no order
			if l, _ := parse(t, file).find(repository); l.user != want {
				t.Errorf("%s: %q, want %q", repository, l.user, want)
				break
			}
		}
	}
}

func TestEntriesAsToolsWriteThem(t *testing.T) {
	padded := encoded("u:secret") // ends with "="
	for name, test := range map[string]struct{ entry, user, secret, bearer, bad string }{
		"auth":                    {`{"auth":"` + padded + `"}`, "u", "secret", "", ""},
		"auth with a newline":     {`{"auth":"` + padded + `\n"}`, "u", "secret", "", ""},
		"auth with blanks":        {`{"auth":" ` + padded + `\t"}`, "u", "secret", "", ""},
		"auth without padding":    {`{"auth":"` + strings.TrimRight(padded, "=") + `"}`, "u", "secret", "", ""},
		"auth in URLs' alphabet":  {`{"auth":"dTo_Pz8-"}`, "u", "???>", "", ""},
		"a password with a colon": {`{"auth":"` + encoded("u:a:b") + `"}`, "u", "a:b", "", ""},
		"zeros at the end":        {`{"auth":"` + encoded("u:p\x00\x00") + `"}`, "u", "p", "", ""},
		"auth over the others":    {`{"auth":"` + padded + `","username":"x","password":"y"}`, "u", "secret", "", ""},
		"empty auth":              {`{"auth":"","username":"u","password":"secret"}`, "u", "secret", "", ""},
		"username, password":      {`{"username":"u","password":"secret"}`, "u", "secret", "", ""},
		"identitytoken":           {`{"identitytoken":"refresh"}`, "", "refresh", "", ""},
		"identitytoken beside":    {`{"auth":"` + encoded("0000:") + `","identitytoken":"refresh"}`, "", "refresh", "", ""},
		"registrytoken":           {`{"registrytoken":"bearer"}`, "", "", "bearer", ""},
		"further members":         {`{"auth":"` + padded + `","email":5}`, "u", "secret", "", ""},
		"nothing":                 {`{}`, "", "", "", ""},
		"null":                    {`null`, "", "", "", ""},
		"no colon":                {`{"auth":"` + encoded("secret\n") + `"}`, "", "", "", "not base64 of user:password"},
		"no user":                 {`{"auth":"` + encoded(":secret") + `"}`, "", "", "", "not base64 of user:password"},
		"a token with a line end": {`{"registrytoken":"secret\r\nx"}`, "", "", "", "registrytoken that is not a token"},
		"no base64":               {`{"auth":"secret!"}`, "", "", "", "not base64 of user:password"},
		"a number":                {`{"auth":5}`, "", "", "", "not an object of strings"},
		"a string":                {`"secret"`, "", "", "", "not an object of strings"},
	} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, `{"auths":{"bad.example":`+test.entry+`,"good.example":{"username":"u","password":"good"}}}`)
			l := c.forHost("bad.example/app", "bad.example/app")
			if l.user != test.user || l.secret != test.secret || l.bearer != test.bearer {
				t.Errorf("got %q, %q, %q", l.user, l.secret, l.bearer)
			}
			switch {
			case (l.err != nil) != (test.bad != ""):
				t.Errorf("got %v", l.err)
			case l.err != nil && (!strings.Contains(l.err.Error(), test.bad) || !strings.Contains(l.err.Error(), "bad.example") || strings.Contains(l.err.Error(), "secret")):
				t.Errorf("%v: it must name the entry, and no secret", l.err)
			}
			if other := c.forHost("good.example/app", "good.example/app"); other.secret != "good" || other.err != nil {
				t.Errorf("another registry's login: %+v", other)
			}
		})
	}
}

func TestAMirrorsLogin(t *testing.T) {
	c := parse(t, `{"auths":{
		"mirror.example":{"username":"mirror","password":"p"},
		"mirror.example/proxy":{"username":"proxy","password":"p"},
		"empty.example":{},
		"docker.io/team":{"username":"team","password":"p"}}}`)
	for atHost, want := range map[string]string{
		"mirror.example/team/app":       "mirror",
		"mirror.example/proxy/team/app": "proxy",
		"empty.example/team/app":        "team",
		"other.example/team/app":        "team",
		"registry-1.docker.io/team/app": "team",
	} {
		if got := c.forHost(atHost, "docker.io/team/app").user; got != want {
			t.Errorf("%s: %q, want %q", atHost, got, want)
		}
	}
}

func TestWhatAHelperKeepsIsNamed(t *testing.T) {
	const app = "registry.example/app"
	for name, test := range map[string]struct{ file, hint string }{
		"a helper of its own":       {`{"credHelpers":{"registry.example":"ecr-login"}}`, `"ecr-login"`},
		"a store, with an entry":    {`{"auths":{"https://registry.example/v1/":{}},"credsStore":"desktop"}`, `"desktop"`},
		"a store, without an entry": {`{"credsStore":"desktop"}`, ""},
		"a helper of another":       {`{"credHelpers":{"other.example":"ecr-login"}}`, ""},
		"a login beside the helper": {`{"auths":{"registry.example":{"username":"u","password":"p"}},"credHelpers":{"registry.example":"ecr-login"}}`, ""},
		"no helper":                 {`{"auths":{"registry.example":{}}}`, ""},
	} {
		got := parse(t, test.file).hint(app, app)
		if (got == "") != (test.hint == "") || !strings.Contains(got, test.hint) || got != "" && !strings.Contains(got, "docker.json") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
