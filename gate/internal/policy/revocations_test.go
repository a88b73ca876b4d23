package policy_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"countersign/gate/internal/code"
	"countersign/gate/internal/policy"
	"countersign/gate/internal/testsign"
)

func digestOf(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// list is what somebody signs, with members in place of those of a good one.
func list(t *testing.T, serial int, with map[string]any) string {
	t.Helper()
	document := map[string]any{
		"version": policy.RevocationsVersion, "name": "acme", "serial": serial, "issued": "2026-11-29",
		"keys": []string{digestOf(1)}, "certificates": []string{}, "digests": []string{digestOf(2)},
	}
	for name, value := range with {
		document[name] = value
	}
	content, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// carried is a list as a policy has it.
type carried struct {
	Keys       []string `json:"keys"`
	Document   string   `json:"document"`
	Signatures []string `json:"signatures"`
}

func by(t *testing.T, key testsign.Key, document string) carried {
	t.Helper()
	return carried{[]string{key.PEM}, document, []string{sign(t, key, crypto.SHA256, []byte(document))}}
}

// including is a policy that includes lists.
func including(t *testing.T, serial int, lists ...carried) []byte {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(rendered(t, serial, "a.example"), &document); err != nil {
		t.Fatal(err)
	}
	document["revoked"].(map[string]any)["lists"] = lists
	content, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestWhatAListNamesIsRevoked(t *testing.T) {
	key := testsign.NewKey(t)
	signer := testsign.NewAuthority(t).Issue(t, testsign.Person{Email: "release@acme.example"})
	issued := map[string]any{"certificates": []any{digestOf(3), map[string]string{
		"issuer": signer.Certificate.Issuer.String(), "serial": signer.Certificate.SerialNumber.Text(16)}}}
	for _, test := range []struct {
		name    string
		lists   []carried
		revoked bool
	}{
		{"no list", nil, false},
		{"a list", []carried{by(t, key, list(t, 7, issued))}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := policy.Parse(including(t, 1, test.lists...))
			if err != nil {
				t.Fatal(err)
			}
			_, digest := p.RevokedDigest(digestOf(2))
			for name, got := range map[string]bool{"key": p.RevokedKey(digestOf(1)), "digest": digest,
				"certificate": p.RevokedCertificate(signer.Certificate)} {
				if got != test.revoked {
					t.Errorf("%s revoked: %v", name, got)
				}
			}
			if test.revoked && (len(p.Lists) != 1 || p.Lists[0].String() != "acme serial 7 of 2026-11-29, entries: 4") {
				t.Errorf("lists: %v", p.Lists)
			}
		})
	}
}

func TestAListMakesAnotherTrust(t *testing.T) {
	key := testsign.NewKey(t)
	one, err := policy.Parse(including(t, 1, by(t, key, list(t, 7, nil))))
	if err != nil {
		t.Fatal(err)
	}
	two, err := policy.Parse(including(t, 1, by(t, key, list(t, 8, map[string]any{"digests": []string{}}))))
	if err != nil || one.TrustHash == two.TrustHash {
		t.Errorf("%v, %s", err, one.TrustHash)
	}
}

// TestOnlyAGoodListCounts has each case differ in one thing from the good one.
func TestOnlyAGoodListCounts(t *testing.T) {
	key, other := testsign.NewKey(t), testsign.NewKey(t)
	good := list(t, 7, nil)
	many := make([]string, 10_001)
	for i := range many {
		many[i] = digestOf(i)
	}
	changed := func(how func(*carried)) []carried {
		one := by(t, key, good)
		how(&one)
		return []carried{one}
	}
	of := func(with map[string]any) []carried { return []carried{by(t, key, list(t, 7, with))} }
	repeated := strings.Replace(good, `"serial":7`, `"serial":7,"serial":8`, 1)
	for _, test := range []struct {
		name  string
		lists []carried
		found string // "" for a good one
	}{
		{"signed", []carried{by(t, key, good)}, ""},
		{"by the second key", changed(func(c *carried) { c.Keys = []string{other.PEM, key.PEM} }), ""},
		{"with another signature before", changed(func(c *carried) {
			c.Signatures = []string{sign(t, other, crypto.SHA256, []byte(good)), c.Signatures[0]}
		}), ""},
		{"not signed", changed(func(c *carried) { c.Signatures = nil }), "no signature by one of its keys"},
		{"by another key", changed(func(c *carried) { c.Keys = []string{other.PEM} }), "no signature by one of its keys"},
		{"tampered with", changed(func(c *carried) { c.Document = strings.Replace(good, digestOf(2), digestOf(4), 1) }), "no signature by one of its keys"},
		{"a space more", changed(func(c *carried) { c.Document += " " }), "no signature by one of its keys"},
		{"of no key", changed(func(c *carried) { c.Keys = nil }), "at least one public key"},
		{"of a key that is none", changed(func(c *carried) { c.Keys = []string{"PEM"} }), "keys[0]"},
		{"of too many keys", changed(func(c *carried) { c.Keys = strings.Split(strings.Repeat(key.PEM+"|", 17), "|")[:17] }), "17 keys"},
		{"as large as may be", []carried{by(t, key, good+strings.Repeat(" ", policy.MaxRevocations-len(good)))}, ""},
		{"too large", []carried{by(t, key, good+strings.Repeat(" ", policy.MaxRevocations-len(good)+1))}, "1048577 bytes"},
		{"as many entries as may be", of(map[string]any{"digests": many[:10_000]}), ""},
		{"too many entries", of(map[string]any{"digests": many}), "10001 entries of a kind"},
		{"no JSON", []carried{by(t, key, "keys: []")}, "revoked.lists[0]"},
		{"with a member twice", []carried{by(t, key, repeated)}, "duplicate"},
		{"with an unknown member", of(map[string]any{"except": []string{}}), "except"},
		{"of another version", of(map[string]any{"version": policy.Version}), "version"},
		{"without a name", of(map[string]any{"name": ""}), `name ""`},
		{"of a name with a line's end", of(map[string]any{"name": "a\nb"}), `name "a\nb"`},
		{"without a serial", of(map[string]any{"serial": 0}), "serial 0"},
		{"of a serial too high", of(map[string]any{"serial": 1 << 53}), "serial 9007199254740992"},
		{"of no day", of(map[string]any{"issued": "yesterday"}), `issued "yesterday"`},
		{"with a key in another form", of(map[string]any{"keys": []string{"security.pub"}}), "(acme).keys[0]"},
		{"with a certificate in another form", of(map[string]any{"certificates": []string{"a.pem"}}), "(acme).certificates[0]"},
		{"with a digest in another form", of(map[string]any{"digests": []string{"sha256:AA"}}), "(acme).digests[0]"},
		{"beside another", []carried{by(t, key, good), by(t, key, list(t, 7, map[string]any{"name": "other"}))}, ""},
		{"twice", []carried{by(t, key, good), by(t, key, list(t, 8, nil))}, `"acme" stands there twice`},
		{"among too many", make([]carried, 17), "17 lists"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := policy.Parse(including(t, 1, test.lists...))
			if test.found == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var refusal *code.Refusal
			if !errors.As(err, &refusal) || refusal.Code != code.PolicyInvalid || !strings.Contains(refusal.Error(), test.found) {
				t.Errorf("got %v, expected %q", err, test.found)
			}
		})
	}
}

func TestAListsSerialOnlyGrows(t *testing.T) {
	key, successor := testsign.NewKey(t), testsign.NewKey(t)
	emptied := map[string]any{"digests": []string{}}
	for _, test := range []struct {
		name   string
		next   []carried
		result string
	}{
		{"a newer list", []carried{by(t, key, list(t, 8, emptied))}, ""},
		{"the same list", []carried{by(t, key, list(t, 7, nil))}, ""},
		{"the same list by a new key", []carried{by(t, successor, list(t, 7, nil))}, ""},
		{"an older list", []carried{by(t, key, list(t, 6, emptied))}, "older"},
		{"an older list by a new key", []carried{by(t, successor, list(t, 6, emptied))}, "older"},
		{"the same serial with other content", []carried{by(t, key, list(t, 7, emptied))}, "older"},
		{"a first list of another name", []carried{by(t, key, list(t, 1, map[string]any{"name": "other"}))}, ""},
		{"an older list beside a newer one", []carried{by(t, key, list(t, 9, map[string]any{"name": "other"})), by(t, key, list(t, 6, nil))}, "older"},
		{"no list", nil, ""},
	} {
		for _, serial := range []int{0, 3} { // of the policy: a list counts where policies have none, too
			t.Run(fmt.Sprintf("%s/serial %d", test.name, serial), func(t *testing.T) {
				file := newFile(t)
				enforce(t, file, including(t, serial, by(t, key, list(t, 7, nil))), false)
				if serial > 0 {
					serial++
				}
				next := including(t, serial, test.next...)
				_, err := file.Install("new.json", next, nil, false, false)
				want(t, err, test.result)
				write(t, file.Path, next) // by another way than Install
				p, err := file.Load()
				want(t, err, test.result)
				if test.result == "" {
					_, _, err = file.Remember(p)
				} else if p, err = policy.Parse(next); err == nil {
					_, _, err = file.Remember(p)
				}
				want(t, err, test.result)
			})
		}
	}
}

func TestAListIsRememberedWhereAPolicyComesWithoutIt(t *testing.T) {
	key := testsign.NewKey(t)
	for _, test := range []struct {
		serial int
		result string
	}{{7, ""}, {6, "older"}} {
		file := newFile(t)
		enforce(t, file, including(t, 1, by(t, key, list(t, 7, nil))), false)
		enforce(t, file, including(t, 2), false)
		_, err := file.Install("new.json", including(t, 3, by(t, key, list(t, test.serial, nil))), nil, false, false)
		want(t, err, test.result)
	}
}

func TestForceIsForOneOlderListOnce(t *testing.T) {
	key := testsign.NewKey(t)
	file := newFile(t)
	enforce(t, file, including(t, 1, by(t, key, list(t, 7, nil))), false)
	older := including(t, 2, by(t, key, list(t, 5, nil)))
	if _, forced := enforce(t, file, older, true); !forced {
		t.Error("not forced")
	}
	_, err := file.Load()
	want(t, err, "") // what is in force now, when the gate starts again
	_, err = file.Install("new.json", including(t, 3, by(t, key, list(t, 4, nil))), nil, false, false)
	want(t, err, "older") // another one
	enforce(t, file, including(t, 3, by(t, key, list(t, 8, nil))), false)
	_, err = file.Install("new.json", including(t, 4, by(t, key, list(t, 5, nil))), nil, false, false)
	want(t, err, "older") // the same list, once more
	_, err = file.Install("new.json", including(t, 4, carried{[]string{key.PEM}, list(t, 5, nil), nil}), nil, true, false)
	if err == nil { // force is not a signature
		t.Error("a list without a signature was taken by force")
	}
}

func TestMoreListsThanCanBeRememberedAreNotInForce(t *testing.T) {
	key := testsign.NewKey(t)
	file := newFile(t)
	named := func(n int) carried {
		return by(t, key, list(t, 1, map[string]any{"name": fmt.Sprintf("%0128d", n)}))
	}
	var err error
	n := 0
	for ; n < 1000 && err == nil; n += 16 {
		lists := []carried{}
		for i := range 16 {
			lists = append(lists, named(n+i))
		}
		var p *policy.Policy
		if p, err = policy.Parse(including(t, n+1, lists...)); err != nil {
			t.Fatal(err)
		}
		if _, err = file.Install("new.json", including(t, n+1, lists...), nil, false, false); err == nil {
			_, _, err = file.Remember(p)
		}
	}
	want(t, err, "unremembered")
	if n < 100 {
		t.Errorf("only %d lists were remembered", n)
	}
	_, err = file.Install("new.json", including(t, n+1, named(0)), nil, false, false)
	want(t, err, "") // what is remembered can still be read
}
