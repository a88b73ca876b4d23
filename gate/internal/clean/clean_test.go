package clean

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"ordinary", "countersign: refused registry.example/app:v1 — größer, 漢字, 🙂…", "countersign: refused registry.example/app:v1 — größer, 漢字, 🙂…"},
		{"escape sequence", "\x1b[2J\x1b]0;pwned\x07", `\u001b[2J\u001b]0;pwned\u0007`},
		{"C1", "a\u009b31mb\u0085c", `a\u009b31mb\u0085c`},
		{"C1 as a bare byte", "a\x9b31m", "a�31m"},
		{"DEL and NUL", "a\x7f\x00", `a\u007f\u0000`},
		{"line ends", "a\r\nb\tc", "a  b c"},
		{"other line ends", "a\v\f\u2028\u2029b", `a\u000b\u000c\u2028\u2029b`},
		{"bidirectional override", "a\u202egnp.exe\u202c", `a\u202egnp.exe\u202c`},
		{"bidirectional isolates and marks", "\u2066\u2067\u2068\u2069\u200e\u200f\u061c", `\u2066\u2067\u2068\u2069\u200e\u200f\u061c`},
		{"no width", "ad\u200bmin\ufeff\u2060\u00ad\u200d", `ad\u200bmin\ufeff\u2060\u00ad\u200d`},
		{"fillers and selectors", "a\u3164\u115f\uffa0\ufe0f\u034f", `a\u3164\u115f\uffa0\ufe0f\u034f`},
		{"blanks that are none", "a\u00a0\u2003b", `a\u00a0\u2003b`},
		{"tags", "a\U000e0041", `a\udb40\udc41`},
		{"invalid UTF-8", "a\xff\xed\xa0\x80b", "a����b"},
		{"the mark of invalid UTF-8", "a�", "a�"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Line(test.in, 1000)
			if got != test.want {
				t.Errorf("got %q, expected %q", got, test.want)
			}
			if again := Line(got, 1000); again != got {
				t.Errorf("cleaned twice it is %q", again)
			}
		})
	}
}

func TestLineIsBounded(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"abc", "abc"}, {"abcd", "abc…"}, {"abä", "ab…"}, {"a\x1b", "a…"}, {strings.Repeat("\x1b", 1<<20), "…"},
	} {
		if got := Line(test.in, 3); got != test.want {
			t.Errorf("%.10q: got %q, expected %q", test.in, got, test.want)
		}
	}
}

func TestWriterLeavesJSONTheSameDocument(t *testing.T) {
	document := map[string]string{"a": "\x1b\u009b\u202e\U000e0041\u2028", "b": "ä\n"}
	var b strings.Builder
	encoder := json.NewEncoder(Writer{&b})
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.String() {
		if r != '\n' && !visible(r) {
			t.Errorf("%U came through", r)
		}
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil || got["a"] != document["a"] || got["b"] != document["b"] {
		t.Errorf("got %q, %v", got, err)
	}
	if lines := strings.Count(b.String(), "\n"); lines != 4 {
		t.Errorf("%d lines", lines)
	}
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{"", "a", "\x1b[2J", "\u202e", "\xff", "\u009b"} {
		f.Add(seed, 20)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, limit%4096)
		got := Line(s, limit)
		if len(got) > limit+len("…") || !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
		for _, r := range got {
			if !visible(r) {
				t.Errorf("%U came through", r)
			}
		}
	})
}
