package judge

import (
	"slices"
	"strings"
	"testing"

	"countersign/gate/internal/code"
)

func TestEveryCodeOfADiagnosisHasItsPlaceAndAdvice(t *testing.T) {
	places := map[int]code.Code{}
	for c, place := range progress {
		if other, ok := places[place]; ok {
			t.Errorf("%s and %s got equally far", c, other)
		}
		places[place] = c
		if advice[c] == "" || c.Allows() || !slices.Contains(code.All, c) {
			t.Errorf("%s: advice %q", c, advice[c])
		}
	}
}

func TestDetailsAreBounded(t *testing.T) {
	var findings []finding
	for i := range 2 * maxDetails {
		findings = append(findings, finding{code.Malformed, strings.Repeat("x", maxFinding-i) + strings.Repeat("y", 1<<20)})
	}
	if lines := details(findings); len(lines) != maxDetails+1 || len(strings.Join(lines, "")) > (maxDetails+1)*(maxFinding+64) {
		t.Errorf("%d lines of %d bytes", len(lines), len(strings.Join(lines, "")))
	}
}
