package policy

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// RevocationsVersion is the version of a list of what is trusted no more, which has a
// serial and signatures of its own and which several policies include.
const RevocationsVersion = "countersign.revocations/v1"

// MaxRevocations bounds a list in bytes; the others bound how much of a kind there may be.
const (
	MaxRevocations = 1 << 20
	maxLists       = 16     // of a policy
	maxListKeys    = 16     // that may sign one list
	maxEntries     = 10_000 // of a kind in one list
)

// Revocations is a list that a policy includes. What it names is among what the policy
// revokes; the rest is for those who compare two of one name.
type Revocations struct {
	Name    string
	Serial  int64
	Hash    string // sha256:<hex> of its bytes
	Issued  string // the day
	Entries int
}

// String gives the list for a log and for people.
func (r Revocations) String() string {
	return fmt.Sprintf("%s serial %d of %s, entries: %d", r.Name, r.Serial, r.Issued, r.Entries)
}

// At gives the day that the list was issued.
func (r Revocations) At() time.Time {
	at, _ := time.Parse(time.DateOnly, r.Issued) // addList has looked at it
	return at
}

// listJSON is how a policy carries a list: its very bytes, their signatures, and the keys
// by which one of these has to be.
type listJSON struct {
	Keys       []string `json:"keys"`
	Document   string   `json:"document"`
	Signatures []string `json:"signatures"`
}

type revocationsJSON struct {
	Version      string           `json:"version"`
	Name         string           `json:"name"`
	Serial       int64            `json:"serial"`
	Issued       string           `json:"issued"`
	Keys         []string         `json:"keys"`
	Certificates []jsontext.Value `json:"certificates"`
	Digests      []string         `json:"digests"`
}

const (
	relist = "have the list signed (signing.revocation-list) and render policy.yaml with it again"
	aList  = "a list of version " + RevocationsVersion
)

// readLists adds to what p revokes what its lists do.
func readLists(p *Policy, lists []listJSON) error {
	if len(lists) > maxLists {
		return invalid(fmt.Sprintf("revoked.lists: %d lists", len(lists)), fmt.Sprintf("at most %d", maxLists), rerender)
	}
	for i, carried := range lists {
		where := fmt.Sprintf("revoked.lists[%d]", i)
		if err := checkSigned(where, carried); err != nil {
			return err
		}
		list, err := addList(p, where, []byte(carried.Document))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(p.Lists, func(other Revocations) bool { return other.Name == list.Name }) {
			return invalid(fmt.Sprintf("%s: %q stands there twice", where, list.Name), "each list once", rerender)
		}
		p.Lists = append(p.Lists, list)
	}
	return nil
}

// checkSigned comes before anything in the list is read.
func checkSigned(where string, carried listJSON) error {
	if size := len(carried.Document); size > MaxRevocations {
		return invalid(fmt.Sprintf("%s: %d bytes", where, size), fmt.Sprintf("at most %d", MaxRevocations), relist)
	}
	if count := len(carried.Keys); count > maxListKeys {
		return invalid(fmt.Sprintf("%s: %d keys", where, count), fmt.Sprintf("at most %d", maxListKeys), rerender)
	}
	keys, err := readKeys(where, carried.Keys)
	if err != nil {
		return err
	}
	if len(signedBy(keys, []byte(carried.Document), []byte(strings.Join(carried.Signatures, "\n")))) == 0 {
		return invalid(where+": no signature by one of its keys", "a signature of the list's very bytes", relist)
	}
	return nil
}

// addList reads a list that is signed.
func addList(p *Policy, where string, data []byte) (Revocations, error) {
	var doc revocationsJSON
	if err := json.Unmarshal(data, &doc, json.RejectUnknownMembers(true)); err != nil {
		return Revocations{}, invalid(where+": "+clean(err), aList, relist)
	}
	if doc.Version != RevocationsVersion {
		return Revocations{}, invalid(fmt.Sprintf("%s: version %q", where, doc.Version), aList, relist)
	}
	if _, err := time.Parse(time.DateOnly, doc.Issued); err != nil || !validRootName(doc.Name) || doc.Serial < 1 || doc.Serial > maxSerial {
		return Revocations{}, invalid(fmt.Sprintf("%s: name %q, serial %d, issued %q", where, doc.Name, doc.Serial, doc.Issued),
			"a name of letters, digits, '.', '_' and '-', a serial from 1, and a day: 2026-11-29", relist)
	}
	for _, count := range []int{len(doc.Keys), len(doc.Certificates), len(doc.Digests)} {
		if count > maxEntries {
			return Revocations{}, invalid(fmt.Sprintf("%s: %d entries of a kind", where, count), fmt.Sprintf("at most %d", maxEntries), relist)
		}
	}
	where += " (" + doc.Name + ")"
	keys, err := digestSet(where+".keys", doc.Keys)
	if err != nil {
		return Revocations{}, err
	}
	certificates, err := readRevokedCertificates(where+".certificates", doc.Certificates)
	if err != nil {
		return Revocations{}, err
	}
	digests, err := digestSet(where+".digests", doc.Digests)
	if err != nil {
		return Revocations{}, err
	}
	maps.Copy(p.revokedKeys, keys)
	maps.Copy(p.revokedCertificates, certificates)
	maps.Copy(p.revokedDigests, digests)
	return Revocations{doc.Name, doc.Serial, hash(data), doc.Issued, len(keys) + len(certificates) + len(digests)}, nil
}
