// Package clean makes text that came from outside (a registry, a pod, a policy, the
// node) safe to show: a terminal obeys control characters, and a reader is deceived
// by what has no width or turns the direction of writing. It is the gate's only rule
// of this kind; verdicts go through it in package verdict, everything that is
// printed or logged in Writer.
package clean

import (
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line makes s one line of at most limit bytes (and "…" where it was cut) in valid
// UTF-8. Line ends and tabs become blanks; whatever else can't be seen is written
// as JSON and Go escape it (\u001b), so that it can be read but does nothing.
func Line(s string, limit int) string {
	return within(s, limit, false)
}

func within(s string, limit int, lines bool) string {
	if len(s) <= limit && plain(s, lines) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		before := b.Len()
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteRune(utf8.RuneError)
		case visible(r) || lines && r == '\n':
			b.WriteRune(r)
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		default:
			escape(&b, r)
		}
		if b.Len() > limit {
			return b.String()[:before] + "…"
		}
		s = s[size:]
	}
	return b.String()
}

// plain says whether there is nothing to do, as nearly always.
func plain(s string, lines bool) bool {
	for _, r := range s {
		if !visible(r) && !(lines && r == '\n') || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// visible says whether a reader sees that r is there, and nothing but r changes.
func visible(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r < 0x7f
	}
	// Fillers and selectors count as letters and marks, but show nothing.
	return strconv.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

const hex = "0123456789abcdef"

// escape writes r as JSON does, beyond U+FFFF too: what is escaped inside a
// document in JSON leaves it one.
func escape(b *strings.Builder, r rune) {
	units := []rune{r}
	if r > 0xffff {
		units = []rune{0xd800 + (r-0x10000)>>10, 0xdc00 + (r-0x10000)&0x3ff}
	}
	for _, u := range units {
		b.WriteString(`\u`)
		for shift := 12; shift >= 0; shift -= 4 {
			b.WriteByte(hex[u>>shift&0xf])
		}
	}
}

// Writer cleans what is written through it, each Write on its own, and keeps the
// ends of lines.
type Writer struct{ To io.Writer }

// Write implements io.Writer.
func (w Writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.To, within(string(p), unbounded, true)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// unbounded is for what was bounded before.
const unbounded = int(^uint(0) >> 1)
