package policy

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
)

// MarkVersion is the version of the document that remembers the highest serial.
const MarkVersion = "countersign.policy-mark/v1"

// Bounds of what is read: JSON's numbers are exact up to 2^53-1 for every reader.
const (
	maxSerial = 1<<53 - 1
	maxMark   = 4 << 10
)

// Mark remembers which policy had the highest serial of those that were in force.
// It is read anew each time: two gates share it while one hands over.
type Mark struct {
	Version string `json:"version"`
	Serial  int64  `json:"serial"`
	Hash    string `json:"hash"`             // of the policy of that serial
	Forced  string `json:"forced,omitempty"` // hash of the one older policy that may come into force, once
}

// readMark gives a Mark without serial where there is none yet.
func readMark(path string) (Mark, error) {
	data, err := readBounded(path, maxMark)
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
	data, err := json.Marshal(m)
	if err == nil {
		err = replace(path, append(data, '\n'), 0o600)
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
		return nil
	case p.Serial == m.Serial:
		return refused(older, fmt.Sprintf("serial %d with other content than the policy that had it (%s)", p.Serial, m.Hash),
			fmt.Sprintf("serial %d or higher", m.Serial+1), remedy)
	}
	return refused(older, fmt.Sprintf("serial %d, and serial %d was in force on this node", p.Serial, m.Serial),
		fmt.Sprintf("serial %d or higher", m.Serial+1), remedy)
}

const remedy = "install the policy with a higher serial (policy.apply); an older one only on this node: countersign-gate install-policy FILE --force"

// readSerial takes a policy's serial; one without has 0.
func readSerial(p *Policy, doc *document) error {
	if doc.Serial < 0 || doc.Serial > maxSerial {
		return invalid(fmt.Sprintf("serial %d", doc.Serial), fmt.Sprintf("0 to %d", int64(maxSerial)), rerender)
	}
	p.Serial = doc.Serial
	return nil
}
