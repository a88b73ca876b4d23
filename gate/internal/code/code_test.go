package code

import (
	"encoding/json"
	"os"
	"testing"
)

func TestListIsTheSharedOne(t *testing.T) {
	data, err := os.ReadFile("../../../shared/reason-codes.json")
	if err != nil {
		t.Fatal(err)
	}
	var shared []struct {
		Code  Code
		Allow bool
	}
	if err := json.Unmarshal(data, &shared); err != nil {
		t.Fatal(err)
	}
	if len(shared) != len(All) {
		t.Fatalf("%d codes, %d in reason-codes.json", len(All), len(shared))
	}
	for i, s := range shared {
		if s.Code != All[i] || s.Allow != All[i].Allows() {
			t.Errorf("number %d: %s (allows %v), in reason-codes.json %s (allows %v)", i, All[i], All[i].Allows(), s.Code, s.Allow)
		}
	}
}
