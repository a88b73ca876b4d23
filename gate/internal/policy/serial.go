package policy

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"countersign/gate/internal/bounded"
)

// MarkVersion is the version of the document that remembers the highest serial.
const MarkVersion = "countersign.policy-mark/v1"

// Bounds of what is read: JSON's numbers are exact up to 2^53-1 for every reader.
const (
	maxSerial = 1<<53 - 1
	maxMark   = 64 << 10 // some 300 lists
)

// Mark remembers which policy had the highest serial of those that were in force.
// It is read anew each time: two gates share it while one hands over.
type Mark struct {
	Version string `json:"version"`
	Serial  int64  `json:"serial"`
	Hash    string `json:"hash"`             // of the policy of that serial
	Forced  string `json:"forced,omitempty"` // hash of the one older policy that may come into force, once

	Lists map[string]ListMark `json:"lists,omitempty"` // by name; kept when a policy comes without
}

// ListMark remembers the highest serial of a list of what is revoked.
type ListMark struct {
	Serial int64  `json:"serial"`
	Hash   string `json:"hash"`
}

// readMark gives a Mark without serial where there is none yet.
func readMark(path string) (Mark, error) {
	data, err := bounded.File(path, maxMark)
	if errors.Is(err, fs.ErrNotExist) {
		return Mark{Version: MarkVersion}, nil
	}
	var m Mark
	if err == nil {
		err = json.Unmarshal(data, &m, json.RejectUnknownMembers(true))
	}
	if err == nil && (m.Version != MarkVersion || m.Serial < 0) {
		err = fmt.Errorf("version %.40q, serial %d", m.Version, m.Serial)
	}
	if err != nil {
		return Mark{}, refused(unremembered, fmt.Sprintf("the mark of the highest serial can't be read: %s: %s", path, clean(err)),
			"a document of version "+MarkVersion, "find out who changed it; then countersign-gate install-policy FILE --force")
	}
	return m, nil
}

func writeMark(path string, m Mark) error {
	m.Version = MarkVersion
	data, err := json.Marshal(m, json.Deterministic(true))
	if err == nil && len(data) >= maxMark {
		err = fmt.Errorf("%d lists of what is revoked are more than can be read again", len(m.Lists))
	}
	if err == nil {
		err = Replace(path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return refused(unremembered, "the highest serial can't be remembered: "+err.Error(), "a state folder that can be written to",
			"make room or fix "+path)
	}
	return nil
}

// admits says whether p may come into force after what the mark remembers. Two
// policies of one serial are two that nobody put in an order.
func (m Mark) admits(p *Policy) error {
	switch {
	case p.Hash == m.Forced, p.Serial > m.Serial, p.Hash == m.Hash, p.Serial == 0 && m.Serial == 0:
		return m.admitsLists(p)
	case p.Serial == m.Serial:
		return refused(older, fmt.Sprintf("serial %d with other content than the policy that had it (%s)", p.Serial, m.Hash),
			fmt.Sprintf("serial %d or higher", m.Serial+1), remedy)
	}
	return refused(older, fmt.Sprintf("serial %d, and serial %d was in force on this node", p.Serial, m.Serial),
		fmt.Sprintf("serial %d or higher", m.Serial+1), remedy)
}

// admitsLists says whether p's lists may come into force: each by its own serial, in the
// same order as policies.
func (m Mark) admitsLists(p *Policy) error {
	for _, list := range p.Lists {
		known := m.Lists[list.Name]
		if p.Hash == m.Forced || list.Serial > known.Serial || list.Hash == known.Hash {
			continue
		}
		return refused(older, fmt.Sprintf("list %q of what is revoked has serial %d, and serial %d (%s) was in force on this node",
			list.Name, list.Serial, known.Serial, known.Hash), fmt.Sprintf("serial %d or higher, or the very list", known.Serial+1), listRemedy)
	}
	return nil
}

// with gives the marks of all lists once these are in force.
func (m Mark) with(lists []Revocations) map[string]ListMark {
	all := maps.Clone(m.Lists)
	if all == nil {
		all = map[string]ListMark{}
	}
	for _, list := range lists {
		all[list.Name] = ListMark{list.Serial, list.Hash}
	}
	return all
}

const listRemedy = "take the newest list beside policy.yaml, then policy.apply; an older one only on this node: countersign-gate install-policy FILE --force"

const remedy = "install the policy with a higher serial (policy.apply); an older one only on this node: countersign-gate install-policy FILE --force"

// readSerial takes a policy's serial; one without has 0.
func readSerial(p *Policy, doc *document) error {
	if doc.Serial < 0 || doc.Serial > maxSerial {
		return invalid(fmt.Sprintf("serial %d", doc.Serial), fmt.Sprintf("0 to %d", int64(maxSerial)), rerender)
	}
	p.Serial = doc.Serial
	return nil
}
