package bounded

import (
	"slices"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	for _, test := range []struct {
		raw  string
		want []int
		more bool
		ok   bool
	}{
		{"", nil, false, true},
		{"null", nil, false, true},
		{"[]", nil, false, true},
		{"[1,2,3]", []int{1, 2, 3}, false, true},
		{"[1,2,3,4]", []int{1, 2, 3}, true, true},
		{`[1,"2"]`, nil, false, false},
		{"{}", nil, false, false},
		{"7", nil, false, false},
	} {
		got, more, err := List[int]([]byte(test.raw), 3)
		if !slices.Equal(got, test.want) || more != test.more || (err == nil) != test.ok {
			t.Errorf("%s: got %v, %v, %v", test.raw, got, more, err)
		}
	}
}

func TestListReadsNoMoreThanItGives(t *testing.T) {
	raw := []byte("[" + strings.Repeat("{},", 1<<20) + "{}]")
	used := testing.AllocsPerRun(1, func() {
		if items, more, err := List[struct{ A, B, C, D *int }](raw, 8); len(items) != 8 || !more || err != nil {
			t.Errorf("%d items, %v, %v", len(items), more, err)
		}
	})
	if used > 1000 {
		t.Errorf("%v allocations", used)
	}
}

func TestText(t *testing.T) {
	for s, want := range map[string]string{"": "", "abc": "abc", "abcd": "abc…", "abä": "ab…"} {
		if got := Text(s, 3); got != want {
			t.Errorf("%q: got %q", s, got)
		}
	}
}
