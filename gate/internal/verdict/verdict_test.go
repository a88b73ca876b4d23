package verdict

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

func TestAVerdictFitsWhateverCameFromOutside(t *testing.T) {
	long := strings.Repeat("\x00", 4<<20) // six bytes each in JSON
	details, steps := make([]string, 33), []Step{{Name: "record", Outcome: long}}
	for i := range details {
		details[i] = long
	}
	v := Verdict{Code: code.Malformed, Image: long, Repository: long, Index: long, Manifest: long, Config: long,
		Container: long, Pod: long, Message: "countersign: refused" + long, Details: details, Steps: steps}
	v.Fit()
	document, err := json.Marshal(&v)
	if err != nil || len(document) > 512<<10 {
		t.Errorf("%d bytes, %v", len(document), err)
	}
	if !strings.HasPrefix(v.Message, "countersign: refused") || details[0] != long || steps[0].Outcome != long {
		t.Error("the beginning was lost, or what others share was changed")
	}
}

func TestAnOrdinaryVerdictStaysAsItIs(t *testing.T) {
	v := Verdict{Image: "registry.example/app:v1", Message: "countersign: allowed", Details: []string{"a"}, Steps: []Step{{Outcome: "b"}}}
	before, _ := json.Marshal(&v)
	v.Fit()
	if after, _ := json.Marshal(&v); string(after) != string(before) {
		t.Errorf("%s became %s", before, after)
	}
}

func TestEveryTextOfAVerdictIsSafeToShow(t *testing.T) {
	const hostile, safe = "a\x1b[2J\u009b\u202e\u200b\xffb\nc", `a\u001b[2J\u009b\u202e\u200b` + "\ufffdb c"
	v := Verdict{Image: hostile, Repository: hostile, Index: hostile, Manifest: hostile, Config: hostile, Scope: hostile, Root: hostile, Format: hostile,
		Container: hostile, Pod: hostile, Message: hostile, Details: []string{hostile}, Steps: []Step{{Name: hostile, Outcome: hostile}}}
	v.Fit()
	want := Verdict{Image: safe, Repository: safe, Index: safe, Manifest: safe, Config: safe, Scope: safe, Root: safe, Format: safe,
		Container: safe, Pod: safe, Message: safe, Details: []string{safe}, Steps: []Step{{Name: safe, Outcome: safe}}}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got %+v", v)
	}
}
