package judge

import (
	"slices"
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
