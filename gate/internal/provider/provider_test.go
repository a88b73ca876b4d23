package provider_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/provider"
	"countersign/gate/internal/testsign"
)

const image = "registry.example/team/app"

func providers(p *testsign.Provider) *provider.Providers {
	return provider.New(provider.Config{Config: p.Config, BinDir: p.BinDir})
}

// gives checks that there is the login of that user, or none and a note that says so.
func gives(t *testing.T, p *provider.Providers, image, user, saying string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	login, ok, notes := p.Login(ctx, image)
	told := strings.Join(notes, "; ")
	if ok != (user != "") || login.User != user || !strings.Contains(told, saying) || saying == "" && told != "" {
		t.Errorf("%s: got %q, %v, %q; expected %q, and %q", image, login.User, ok, told, user, saying)
	}
	if strings.Contains(told, "secret") {
		t.Errorf("a secret is told: %s", told)
	}
}

func answers(kind, duration string) string {
	return testsign.Answers(kind, duration, map[string][2]string{"registry.example": {"user", "secret"}})
}

func TestAProviderIsAskedAsTheKubeletAsksIt(t *testing.T) {
	p := testsign.NewProvider(t, "*.example", `test "$1" = get || exit 3
test -z "$COUNTERSIGN_LEAK" || exit 4
test "$HTTPS_PROXY" = http://proxy.example || exit 5
`+answers("Image", ""))
	t.Setenv("COUNTERSIGN_LEAK", "of the gate's own environment")
	t.Setenv("HTTPS_PROXY", "http://proxy.example")
	gives(t, providers(p), image, "user", "")
	want := `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"registry.example/team/app","kind":"CredentialProviderRequest"}`
	if got := p.Requests(t); len(got) != 1 || got[0] != want {
		t.Errorf("it was asked %q", got)
	}
}

func TestOnlyMatchingProvidersRun(t *testing.T) {
	p := testsign.NewProvider(t, "registry.example/other", answers("Image", ""))
	gives(t, providers(p), image, "", "")
	if got := p.Requests(t); len(got) != 0 {
		t.Errorf("it was asked %q", got)
	}
	gives(t, providers(p), "registry.example/other/app", "user", "")
}

func TestAProviderThatWantsAPodsTokenIsNotRun(t *testing.T) {
	p := testsign.NewProvider(t, "registry.example", answers("Image", ""))
	p.Settings["tokenAttributes"] = map[string]any{"serviceAccountTokenAudience": "a", "cacheType": "Token", "requireServiceAccount": false}
	p.Write(t, p.Settings)
	gives(t, providers(p), image, "", `"provider" needs a pod's token`)
	if got := p.Requests(t); len(got) != 0 {
		t.Errorf("it was asked %q", got)
	}
	p.Settings["tokenAttributes"] = nil
	p.Write(t, p.Settings)
	gives(t, providers(p), image, "user", "")
}

func TestWhatAnAnswerHoldsFor(t *testing.T) {
	for _, test := range []struct {
		kind, duration string
		runs           int // for the image twice, another of its registry, and one of another registry
	}{
		{"Image", "", 3}, {"Registry", "", 2}, {"Global", "", 1}, {"Global", "10m", 1}, {"Image", "0s", 4}, {"Global", "-1s", 4},
	} {
		p := testsign.NewProvider(t, "*.example", testsign.Answers(test.kind, test.duration, map[string][2]string{"*.example": {"user", "secret"}}))
		asked := providers(p)
		for _, name := range []string{image, image, "registry.example/other", "other.example/app"} {
			gives(t, asked, name, "user", "")
		}
		if got := len(p.Requests(t)); got != test.runs {
			t.Errorf("%s %s: %d runs, expected %d", test.kind, test.duration, got, test.runs)
		}
	}
}

func TestAnAnswerEnds(t *testing.T) {
	p := testsign.NewProvider(t, "registry.example", answers("Global", "300ms"))
	asked := providers(p)
	gives(t, asked, image, "user", "")
	time.Sleep(400 * time.Millisecond)
	gives(t, asked, image, "user", "")
	if got := len(p.Requests(t)); got != 2 {
		t.Errorf("%d runs, expected 2", got)
	}
}

func TestOtherSettingsAreAnotherProvider(t *testing.T) {
	p := testsign.NewProvider(t, "registry.example", answers("Global", ""))
	asked := providers(p)
	gives(t, asked, image, "user", "")
	p.Settings["args"] = []string{"other"}
	p.Write(t, p.Settings)
	gives(t, asked, image, "user", "")
	if got := len(p.Requests(t)); got != 2 {
		t.Errorf("%d runs, expected 2", got)
	}
}

func TestEqualRunsAreJoined(t *testing.T) {
	for kind, runs := range map[string]int{"Global": 1, "Image": 8} {
		p := testsign.NewProvider(t, "registry.example", "sleep 0.1\n"+answers(kind, ""))
		asked := providers(p)
		var wait sync.WaitGroup
		for i := range 32 {
			wait.Go(func() { gives(t, asked, fmt.Sprintf("%s%d", image, i%8), "user", "") })
		}
		wait.Wait()
		if got := len(p.Requests(t)); got != runs {
			t.Errorf("%s: %d runs, expected %d", kind, got, runs)
		}
	}
}

func TestARunOutlivesWhoAskedFirst(t *testing.T) {
	p := testsign.NewProvider(t, "registry.example", "sleep 0.3\n"+answers("Global", ""))
	asked := providers(p)
	bounded, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	first, cancel := context.WithCancel(bounded)
	left := make(chan bool)
	go func() {
		_, ok, _ := asked.Login(first, image)
		left <- ok
	}()
	for len(p.Requests(t)) == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if <-left {
		t.Error("who left has a login")
	}
	gives(t, asked, image, "user", "")
	if got := len(p.Requests(t)); got != 1 {
		t.Errorf("%d runs, expected 1", got)
	}
}

func TestProgramsAreBounded(t *testing.T) {
	for _, test := range []struct{ name, body, user, saying string }{
		{"an answer", answers("Global", ""), "user", ""},
		{"a failure", "echo secret >&2\nexit 3", "", "failed (exit status 3)"},
		{"an endless answer", "exec cat /dev/zero", "", "over 131072 bytes"},
		{"no end", "sleep 600", "", "did not answer in time"},
		{"a child that keeps the pipe", "sleep 600 &\nsleep 600", "", "did not answer in time"},
		{"no JSON", `echo '{"auth": "secret'`, "", "CredentialProviderResponse"},
		{"another type", `echo '{"apiVersion": "v1", "kind": "Secret"}'`, "", "CredentialProviderResponse"},
		{"no cacheKeyType", answers("", ""), "", "cacheKeyType"},
		{"no duration", answers("Image", "soon"), "", "cacheDuration"},
		{"no login", testsign.Answers("Image", "", nil), "", "no login for " + image},
		{"a login without a password", testsign.Answers("Image", "", map[string][2]string{"registry.example": {"user", ""}}), "", "no login"},
		{"a login for another registry", testsign.Answers("Image", "", map[string][2]string{"other.example": {"user", "secret"}}), "", "no login"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := testsign.NewProvider(t, "registry.example", test.body)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			login, _, notes := providers(p).Login(ctx, image)
			told := strings.Join(notes, "; ")
			if login.User != test.user || !strings.Contains(told, test.saying) || strings.Contains(told, "secret") {
				t.Errorf("got %q, %q; expected %q, and %q", login.User, told, test.user, test.saying)
			}
			if ctx.Err() != nil {
				t.Error("nothing is left of the registry's time")
			}
		})
	}
}

func TestOnlyRootsProgramsInTheFolderRun(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*testing.T, *testsign.Provider)
		saying string // "" where it runs
	}{
		{"as it is", func(*testing.T, *testsign.Provider) {}, ""},
		{"a link within the folder", func(t *testing.T, p *testsign.Provider) { link(t, p, filepath.Join(p.BinDir, "real")) }, ""},
		{"a link out of the folder", func(t *testing.T, p *testsign.Provider) { link(t, p, filepath.Join(p.BinDir, "../real")) }, "leads out of"},
		{"a folder beside with the same beginning", func(t *testing.T, p *testsign.Provider) {
			must(t, os.Mkdir(p.BinDir+"2", 0o755))
			link(t, p, p.BinDir+"2/real")
		}, "leads out of"},
		{"writable by others", func(t *testing.T, p *testsign.Provider) {
			must(t, os.Chmod(filepath.Join(p.BinDir, "provider"), 0o757))
		}, "mode 0757"},
		{"writable by a group", func(t *testing.T, p *testsign.Provider) {
			must(t, os.Chmod(filepath.Join(p.BinDir, "provider"), 0o775))
		}, "mode 0775"},
		{"in a folder that others can write", func(t *testing.T, p *testsign.Provider) { must(t, os.Chmod(p.BinDir, 0o777)) }, "mode 0777"},
		{"another user's", func(t *testing.T, p *testsign.Provider) { own(t, filepath.Join(p.BinDir, "provider")) }, "belongs to user 65534"},
		{"in another user's folder", func(t *testing.T, p *testsign.Provider) { own(t, p.BinDir) }, "belongs to user 65534"},
		{"not executable", func(t *testing.T, p *testsign.Provider) {
			must(t, os.Chmod(filepath.Join(p.BinDir, "provider"), 0o644))
		}, "not an executable file"},
		{"not there", func(t *testing.T, p *testsign.Provider) { must(t, os.Remove(filepath.Join(p.BinDir, "provider"))) }, "no such file"},
		{"settings that others can write", func(t *testing.T, p *testsign.Provider) { must(t, os.Chmod(p.Config, 0o666)) }, "mode 0666"},
		{"settings of another user", func(t *testing.T, p *testsign.Provider) { own(t, p.Config) }, "belongs to user 65534"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := testsign.NewProvider(t, "registry.example", answers("Global", ""))
			test.change(t, p)
			user := "user"
			if test.saying != "" {
				user = ""
			}
			gives(t, providers(p), image, user, test.saying)
			if got := len(p.Requests(t)); (got > 0) != (test.saying == "") {
				t.Errorf("%d runs", got)
			}
		})
	}
}

func link(t *testing.T, p *testsign.Provider, to string) {
	t.Helper()
	at := filepath.Join(p.BinDir, "provider")
	must(t, os.Rename(at, to))
	must(t, os.Symlink(to, at))
}

func own(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	must(t, os.Chown(path, 65534, 65534))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSeveralProviders(t *testing.T) {
	p := testsign.NewProvider(t, "registry.example", `case $WHICH in
short) `+testsign.Answers("Image", "", map[string][2]string{"registry.example": {"short", "secret"}})+`
;;
long) `+testsign.Answers("Image", "", map[string][2]string{"registry.example": {"other", "secret"}, "registry.example/team": {"long", "secret"}})+`
;;
esac`)
	named := func(name, which string) map[string]any {
		must(t, os.WriteFile(filepath.Join(p.BinDir, name), mustRead(t, filepath.Join(p.BinDir, "provider")), 0o755))
		settings := map[string]any{}
		for key, value := range p.Settings {
			settings[key] = value
		}
		settings["name"] = name
		settings["env"] = append([]map[string]string{{"name": "WHICH", "value": which}}, p.Settings["env"].([]map[string]string)...)
		return settings
	}
	p.Write(t, named("fails", ""), named("first", "short"), named("second", "long"))
	gives(t, providers(p), image, "long", "")
	gives(t, providers(p), "registry.example/app", "short", "")
	p.Write(t, named("fails", ""))
	gives(t, providers(p), image, "", `"fails" did not answer with`)
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	return content
}
