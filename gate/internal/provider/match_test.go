package provider

import "testing"

func TestMatchesAsTheKubelet(t *testing.T) {
	for _, test := range []struct {
		pattern, image string
		want           bool
	}{
		{"registry.example", "registry.example/app", true},
		{"registry.example", "registry.example:5000/app", false},
		{"registry.example:5000", "registry.example:5000/app", true},
		{"registry.example:5000", "registry.example/app", false},
		{"*.example", "registry.example/app", true},
		{"*.example", "a.registry.example/app", false},
		{"*.*.example", "a.registry.example/app", true},
		{"app*.example", "app1.example/app", true},
		{"app*.example", "xapp1.example/app", false},
		{"registry.*", "registry.example/app", true},
		{"*", "registry.example/app", false},
		{"*", "localhost/app", true},
		{"registry.example/team", "registry.example/team/app", true},
		{"registry.example/team", "registry.example/teamwork", true}, // a prefix of the text, as the kubelet has it
		{"registry.example/team/", "registry.example/teamwork", false},
		{"registry.example/*", "registry.example/app", false},
		{"registry.example/team", "registry.example/other", false},
		{"%zz", "registry.example/app", false},
		{"registry.example:x", "registry.example/app", false},
		{"a[.example", "a[.example/app", false},
	} {
		if got := matches(test.pattern, test.image); got != test.want {
			t.Errorf("%s, %s: %v", test.pattern, test.image, got)
		}
	}
}

func TestTheKeyThatCounts(t *testing.T) {
	const image = "registry.example/team/app"
	for _, test := range []struct {
		image string
		keys  []string
		want  string
	}{
		{image, []string{"registry.example", "registry.example/team"}, "registry.example/team"},
		{image, []string{"*.example/team/app", "registry.example"}, "registry.example"},
		{image, []string{"*.example/team", "*.example/team/app", "*.example"}, "*.example/team/app"},
		{image, []string{"https://registry.example/v2/team/", "other.example"}, "registry.example/team/"},
		{image, []string{"registry.example/v1/"}, "registry.example"},
		{image, []string{"registry.example/other"}, ""},
		{"docker.io/library/alpine", []string{"https://index.docker.io/v1/"}, "index.docker.io"},
		{"docker.io/library/alpine", []string{"https://index.docker.io/v1/", "docker.io"}, "docker.io"},
		{"quay.io/library/alpine", []string{"https://index.docker.io/v1/"}, ""},
	} {
		a := answer{auth: map[string]Login{}}
		for _, key := range test.keys {
			a.auth[plainKey(key)] = Login{User: "u", Password: "p"}
		}
		if got, found := a.login(test.image); got != test.want || found != (test.want != "") {
			t.Errorf("%s, %q: %q", test.image, test.keys, got)
		}
	}
}
