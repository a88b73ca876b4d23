package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzJudge checks that nothing but the three known first lines allows.
func FuzzJudge(f *testing.F) {
	f.Add("allow OK\nfine\n{}\n")
	f.Add("refuse UNSIGNED\ncountersign: refused\n{}\n")
	f.Add("allow OK")
	f.Fuzz(func(t *testing.T, answer string) {
		allowed, sentence, fail := judge([]byte(answer))
		want := false
		for _, line := range []string{"allow OK\n", "allow ACCEPTED_BY_SCOPE\n", "allow PINNED_DIGEST\n"} {
			want = want || strings.HasPrefix(answer, line)
		}
		if allowed != want || (allowed && fail != nil) || (allowed && sentence != "") {
			t.Errorf("%q: allowed %v, %q, %v", answer, allowed, sentence, fail)
		}
	})
}

// FuzzSubject checks that a state can put nothing but a short line into a message.
func FuzzSubject(f *testing.F) {
	f.Add(`{"io.kubernetes.cri.image-name": "registry.example/app:v1"}`)
	f.Fuzz(func(t *testing.T, state string) {
		name := subject([]byte(state))
		if len(name) > maxName+len("…") || strings.ContainsAny(name, "\n\r\x1b\x00\u009b\u202e") || (!utf8.ValidString(name)) {
			t.Errorf("%q", name)
		}
	})
}
