package bounded

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestItems(t *testing.T) {
	for _, test := range []struct {
		raw  string
		want []int
		ok   bool
	}{
		{`{"list":[1,2,3]}`, []int{1, 2, 3}, true},
		{`{"a":{"list":[7]},"b":[[],{}],"list":[1],"c":null}`, []int{1}, true},
		{`{}`, nil, true},
		{`{"list":null}`, nil, true},
		{`{"list":[1,2,3,4,5]}`, []int{1, 2, 3, 4}, true}, // each wants no more
		{`{"list":[1,"2"]}`, []int{1}, false},
		{`{"list":[1`, []int{1}, false},
		{`{"list":{}}`, nil, false},
		{`[1]`, nil, false},
		{`junk`, nil, false},
		{``, nil, false},
	} {
		var got []int
		err := Items(strings.NewReader(test.raw), "list", 100, func(i int) bool { got = append(got, i); return len(got) < 4 })
		if !slices.Equal(got, test.want) || (err == nil) != test.ok {
			t.Errorf("%s: got %v, %v", test.raw, got, err)
		}
	}
}

func TestItemsAreBoundedOneByOne(t *testing.T) {
	const limit = 1 << 10
	many := strings.Repeat(`"`+strings.Repeat("x", limit/2)+`",`, 100)
	long := `"` + strings.Repeat("x", 8*limit) + `"`
	for name, test := range map[string]struct {
		raw  string
		long bool
	}{
		"many items":              {`{"list":[` + many + `""]}`, false},
		"some others":             {`{"other":["` + strings.Repeat("x", limit/2) + `"],"list":[]}`, false},
		"many others":             {`{"other":[` + many + `""],"list":[]}`, true},
		"many members":            {`{` + strings.Repeat(`"a":"`+strings.Repeat("x", limit/4)+`",`, 5) + `"list":[]}`, true},
		"a long item":             {`{"list":["",` + long + `]}`, true},
		"a long value beside":     {`{"other":` + long + `,"list":[]}`, true},
		"a long key":              {`{` + long + `:1,"list":[]}`, true},
		"a long number, unending": {`{"list":[` + strings.Repeat("1", 8*limit), true},
	} {
		err := Items(strings.NewReader(test.raw), "list", limit, func(string) bool { return true })
		if errors.Is(err, ErrLong) != test.long || err != nil && !test.long {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestItemsAreNestedSoDeepAtMost(t *testing.T) {
	nested := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
	for name, test := range map[string]struct {
		raw  string
		deep bool
	}{
		"an item":                 {`{"list":[` + nested(maxNesting-2) + `]}`, false},
		"an item, deeper":         {`{"list":[` + nested(maxNesting-1) + `]}`, true},
		"beside, deeper":          {`{"other":` + nested(maxNesting) + `,"list":[]}`, true},
		"one after the other":     {`{"list":[` + strings.Repeat("[],", maxNesting) + `[]]}`, false},
		"in a text":               {`{"list":["` + nested(2*maxNesting) + `\"` + nested(maxNesting) + `"]}`, false},
		"after a text":            {`{"list":["\\",` + nested(maxNesting-1) + `]}`, true},
		"without an end":          {`{"list":` + strings.Repeat("[", 4<<10), true},
		"without an end, objects": {`{"list":` + strings.Repeat(`[{"a":`, 4<<10), true},
	} {
		err := Items(strings.NewReader(test.raw), "list", 64<<10, func(any) bool { return true })
		if errors.Is(err, ErrDeep) != test.deep || err != nil && !test.deep {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestStrings(t *testing.T) {
	for raw, want := range map[string]map[string]string{
		"": nil, "null": nil, "{}": {}, `{"a":"1","b":"2"}`: {"a": "1", "b": "2"},
	} {
		if got, err := Strings([]byte(raw), 2); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: got %v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{`{"a":"1","b":"2","c":"3"}`, `{"a":1}`, `[]`, `{"a":"1"`, `x`} {
		if got, err := Strings([]byte(raw), 2); err == nil {
			t.Errorf("%q: got %v", raw, got)
		}
	}
}

func FuzzItems(f *testing.F) {
	f.Add([]byte(`{"a":{"list":[7]},"list":[{"x":[1]},null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		seen := 0
		_ = Items(strings.NewReader(string(data)), "list", 64, func(any) bool { seen++; return true })
		if seen > len(data) {
			t.Errorf("%d items in %d bytes", seen, len(data))
		}
	})
}

// A stream of blanks has the decoder keep all of them: many such streams are to take one
// buffer, and not one each.
func TestManyStreamsOfBlanksShareABuffer(t *testing.T) {
	const limit, streams = 96 << 10, 200
	blanks := strings.Repeat(" ", 2*limit)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range streams {
		if err := Items(strings.NewReader(blanks), "list", limit, func(int) bool { return true }); !errors.Is(err, ErrLong) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / streams; each > limit/2 {
		t.Errorf("%d bytes a stream", each)
	}
}
