package provider

import (
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/testsign"
)

// Whatever a provider answers, it is a login with an end for patterns that lead to
// images, or an error without a word of it.
func FuzzAnswer(f *testing.F) {
	answer := strings.Split(testsign.Answers("Image", "1h", map[string][2]string{"*.example/team": {"u", "secretsecret"}, "https://index.docker.io/v1/": {"u", "p"}}), "\n")[1]
	f.Add([]byte(answer), "registry.example/team/app")
	f.Add([]byte(strings.Replace(answer, "1h", "-9999999h", 1)), "docker.io/library/app")
	f.Add([]byte(strings.Replace(answer, "*.example", "[.example", 1)), "[.example/app")
	f.Add([]byte(`{"auth":null,"secretsecret":1}`), "")
	f.Fuzz(func(t *testing.T, content []byte, image string) {
		now := time.Now()
		a, err := parseAnswer(content, time.Hour, now)
		if err != nil {
			if strings.Contains(err.Error(), "secretsecret") {
				t.Errorf("a secret is told: %v", err)
			}
			return
		}
		if a.ends.After(now.Add(maxKept)) || len(a.auth) > maxLogins {
			t.Errorf("%q: %d logins, until %s", content, len(a.auth), a.ends)
		}
		key, found := a.login(image)
		if login := a.auth[key]; found && (login.User == "" || login.Password == "" || !leadsTo(key, image)) {
			t.Errorf("%q: %+v under %q for %q", content, login, key, image)
		}
	})
}

// Whatever a CredentialProviderConfig says, what is taken of it names programs by a
// file's name alone, and no error tells its values.
func FuzzSettings(f *testing.F) {
	f.Add([]byte(goodSettings))
	f.Add([]byte(strings.Replace(goodSettings, "ecr-credential-provider", "../x", 1)))
	f.Add([]byte(`{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[]}`))
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		all, err := parseSettings(content)
		if err != nil && strings.Contains(err.Error(), "AWS_PROFILE") && strings.Contains(err.Error(), "secret") {
			t.Errorf("a value is told: %v", err)
		}
		for _, s := range all {
			if s.Name == "" || strings.ContainsAny(s.Name, "/ \x00") || s.Name == "." || s.Name == ".." || s.DefaultCacheDuration == nil || s.lifetime() < 0 || s.APIVersion != apiVersion {
				t.Errorf("%q: %+v", content, s)
			}
		}
	})
}
