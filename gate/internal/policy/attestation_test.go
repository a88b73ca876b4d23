package policy

import (
	"strings"
	"testing"
	"time"
)

const slsa = "https://slsa.dev/provenance/v1"

// attested gives a policy whose rule asks for one attestation, changed.
func attested(t *testing.T, change func(rule, asked parts)) []byte {
	t.Helper()
	asked := parts{"type": slsa, "by": []string{"team-key"}, "where": `predicate.level > 2`, "maxAge": "720h"}
	rule := parts{"anyOf": []string{"team-key"}, "formats": []string{"bundle"}, "signature": slsa, "attestations": []any{asked}}
	change(rule, asked)
	doc := good(t)
	doc["scopes"].(parts)["registry.example/app"] = rule
	return encode(t, doc)
}

func TestParseReadsWhatARuleAsksBeside(t *testing.T) {
	p, err := Parse(attested(t, func(parts, parts) {}))
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := p.Match("registry.example/app")
	if want := "anyOf(team-key)+formats(bundle)+signature(" + slsa + ")+attestations(" + slsa + ")"; rule.String() != want {
		t.Errorf("rule %s, expected %s", rule, want)
	}
	if a := rule.Attestations[0]; a.MaxAge != 720*time.Hour || a.Condition() == nil || a.By[0] != "team-key" {
		t.Errorf("%+v", a)
	}
	if types := rule.Types(); len(types) != 1 || types[0] != slsa {
		t.Errorf("types %v", types)
	}
	if rule.Reads(FormatAttachment) || !rule.Reads(FormatBundle) {
		t.Errorf("formats %v", rule.Formats)
	}
	bare, err := Parse(attested(t, func(rule, asked parts) {
		delete(rule, "formats")
		delete(rule, "signature")
		delete(asked, "where")
		delete(asked, "maxAge")
	}))
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ = bare.Match("registry.example/app")
	if a := rule.Attestations[0]; a.Condition() != nil || a.MaxAge != 0 || !rule.Reads(FormatAttachment) || rule.Signature != "" {
		t.Errorf("%+v", rule)
	}
	if bare.Hash == p.Hash {
		t.Error("the hash does not cover what is asked beside")
	}
}

func TestParseRefusesWhatARuleCannotAsk(t *testing.T) {
	for name, c := range map[string]struct {
		change func(rule, asked parts)
		want   string
	}{
		"no type":                   {func(_, a parts) { delete(a, "type") }, `attestations[0].type: ""`},
		"a short type":              {func(_, a parts) { a["type"] = "slsaprovenance" }, "attestations[0].type"},
		"a type with a blank":       {func(_, a parts) { a["type"] = slsa + " " }, "attestations[0].type"},
		"a type that is too long":   {func(_, a parts) { a["type"] = slsa + strings.Repeat("x", 512) }, "attestations[0].type"},
		"the type of signatures":    {func(_, a parts) { a["type"] = SignPredicate }, "is the type of signatures"},
		"signatures for signatures": {func(r, _ parts) { r["signature"] = SignPredicate }, "signature: "},
		"an empty signature":        {func(r, _ parts) { r["signature"] = "" }, "signature: "},
		"nobody":                    {func(_, a parts) { delete(a, "by") }, "attestations[0].by: empty"},
		"a root that is not there":  {func(_, a parts) { a["by"] = []string{"nobody"} }, `attestations[0].by: "nobody"`},
		"a root twice":              {func(_, a parts) { a["by"] = []string{"team-key", "team-key"} }, "each once"},
		"a condition that is none":  {func(_, a parts) { a["where"] = "predicate.level >" }, "attestations[0].where: line 1, column 18"},
		"an empty condition":        {func(_, a parts) { a["where"] = "" }, "attestations[0].where: empty"},
		"a condition without truth": {func(_, a parts) { a["where"] = "'yes'" }, "type string"},
		"an unknown name":           {func(_, a parts) { a["where"] = "predicat.level > 2" }, "undeclared reference to 'predicat'"},
		"an age in words":           {func(_, a parts) { a["maxAge"] = "a month" }, "attestations[0].maxAge"},
		"an age without a unit":     {func(_, a parts) { a["maxAge"] = "720" }, "attestations[0].maxAge"},
		"no age at all":             {func(_, a parts) { a["maxAge"] = "0h" }, "above zero"},
		"an age below zero":         {func(_, a parts) { a["maxAge"] = "-1h" }, "above zero"},
		"an age beyond all":         {func(_, a parts) { a["maxAge"] = "2000000h" }, "attestations[0].maxAge"},
		"an unknown member":         {func(_, a parts) { a["when"] = "true" }, "when"},
		"an unknown format":         {func(r, _ parts) { r["formats"] = []string{"bundle", "pgp"} }, `formats: "pgp"`},
		"a format twice":            {func(r, _ parts) { r["formats"] = []string{"bundle", "bundle"} }, "formats"},
		"no format":                 {func(r, _ parts) { r["formats"] = []string{} }, "formats: empty"},
		"too many":                  {func(r, a parts) { r["attestations"] = make17(a) }, "at most 16"},
		"beside accept":             {func(r, _ parts) { delete(r, "anyOf"); r["accept"] = true }, "beside accept"},
		"beside reject":             {func(r, _ parts) { delete(r, "anyOf"); r["reject"] = true }, "beside reject"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(attested(t, c.change))
			refuses(t, err, c.want)
		})
	}
}

func make17(asked parts) []any {
	all := []any{}
	for range maxAttestations + 1 {
		all = append(all, asked)
	}
	return all
}
