// Package doctor looks at a node: which settings and files would let an image run
// unseen, without an error anywhere? It asks the runtime itself what is in effect,
// defaults and drop-ins included, and trusts no file for that. It changes nothing;
// whether a refusal really arrives is for a trial to show.
package doctor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"countersign/gate/internal/config"
	"countersign/gate/internal/nri"
	"countersign/gate/internal/verdict"
)

// Version is that of the document.
const Version = "countersign.doctor/v1"

// State is how a check came out.
type State string

// The states. A node is fine when nothing is open or unknown.
const (
	OK      State = "ok"
	Open    State = "open"    // an image could run unseen
	Warning State = "warning" // worth a look; nothing runs unseen by it
	Unknown State = "unknown" // could not be looked at
	Skipped State = "skipped" // does not apply here; the note says why
	Listed  State = "listed"  // was not to be looked at, only named
)

// Finding is one thing that is not as it has to be.
type Finding struct {
	Where  string `json:"where"`  // the setting or file
	Found  string `json:"found"`  // what it is
	Wanted string `json:"wanted"` // what it has to be
	Mend   string `json:"mend"`   // what mends it, on the node
}

func (f Finding) String() string {
	return fmt.Sprintf("%s is %s, expected %s", f.Where, f.Found, f.Wanted)
}

// Check is one thing that was looked at.
type Check struct {
	Name     string    `json:"check"`
	LooksAt  string    `json:"looksAt"`
	Wanted   string    `json:"wanted"`
	State    State     `json:"state"`
	Note     string    `json:"note,omitempty"`
	Findings []Finding `json:"findings,omitempty"`

	look  func(*Node) ([]Finding, error)
	warns bool // what it finds lets no image run unseen
}

// Runtime is the runtime that was looked at.
type Runtime struct {
	Name    string `json:"name"` // containerd or crio
	Version string `json:"version,omitempty"`
	NRI     string `json:"nri,omitempty"` // the version of NRI that it was built with
}

// Report is the document of "doctor --json".
type Report struct {
	Version string  `json:"version"`
	OK      bool    `json:"ok"`
	Node    string  `json:"node"`
	Config  string  `json:"config"` // gate.json
	Runtime Runtime `json:"runtime"`
	Checks  []Check `json:"checks"`
}

// Count gives how many checks are in a state.
func (r *Report) Count(state State) int {
	count := 0
	for _, check := range r.Checks {
		if check.State == state {
			count++
		}
	}
	return count
}

// Options say what to look at.
type Options struct {
	Config     string    // path of gate.json
	CrioSocket string    // CRI-O's socket; "" for the one of gate.json
	Record     io.Reader // what set-up put there; nil for no record
	Setup      string    // the command that sets the node up again; "" where nobody knows one
}

// Node is what a look asks. Every answer is had once, at the first question.
type Node struct {
	options  Options
	settings *config.Config
	owner    int // the user whose files they have to be
	record   map[string]Laid

	recordErr error

	ping       func() (*verdict.Verdict, error)
	servesNRI  func(socket, runtime string) error // nil where it is the runtime, or can't be told
	containerd func() (*containerdFacts, error)
	crio       func() (*crioFacts, error)
	log        func() (io.ReadCloser, error) // of containerd, since it started
	program    func(pid int) string          // the file that a process runs
	mainOf     func(path string) string      // the package that a program was built from
}

// skipped says why a check does not apply.
type skipped string

func (s skipped) Error() string { return string(s) }

// after says which other check has to come out well before one can be looked at.
type after string

func (a after) Error() string { return "not looked at: " + string(a) + " comes first" }

// List names what would be looked at, for what gate.json says, or for both runtimes
// where it can't be read.
func List(options Options) *Report {
	settings, err := config.Load(options.Config)
	report := &Report{Version: Version, OK: true, Node: hostname(), Config: options.Config}
	report.Checks = checks(settings)
	if err == nil {
		report.Runtime.Name = nameOf(settings)
	}
	for i := range report.Checks {
		report.Checks[i].State = Listed
	}
	return report
}

// Look makes every check; none that fails hides another.
func Look(options Options) *Report {
	for _, path := range []*string{&options.Config, &options.CrioSocket} {
		if absolute, err := filepath.Abs(*path); err == nil && *path != "" { // runtimes name whole paths
			*path = absolute
		}
	}
	settings, err := config.Load(options.Config)
	if options.CrioSocket == "" && err == nil && settings.Crio != nil {
		options.CrioSocket = settings.Crio.Socket
	}
	report := &Report{Version: Version, Node: hostname(), Config: options.Config}
	if err != nil {
		report.Checks = []Check{unreadable(options, err)}
		return report
	}
	node := open(options, settings)
	report.Runtime.Name = nameOf(settings)
	report.Checks = checks(settings)
	report.look(node)
	return report
}

// unreadable is all that can be said without gate.json.
func unreadable(options Options, err error) Check {
	state := Open
	if errors.Is(err, os.ErrPermission) {
		state = Unknown
	}
	return Check{
		Name: "gate.config", LooksAt: options.Config, Wanted: "a gate.json that the gate reads", State: state,
		Findings: []Finding{{options.Config, err.Error(), "a gate.json that the gate reads", options.again("set the node up, or name its gate.json with --config")}},
	}
}

func (r *Report) look(node *Node) {
	for i := range r.Checks {
		if r.Checks[i].look != nil {
			r.Checks[i].run(node)
		}
	}
	r.Runtime = node.runtime()
	r.OK = r.Count(Open) == 0 && r.Count(Unknown) == 0
}

func (c *Check) run(node *Node) {
	all, err := c.look(node)
	var found []Finding
	for _, each := range all { // two handlers may share a file
		if !slices.Contains(found, each) {
			found = append(found, each)
		}
	}
	c.Findings = found
	var why skipped
	var first after
	switch {
	case errors.As(err, &why):
		c.State, c.Note = Skipped, err.Error()
	case errors.As(err, &first):
		c.State, c.Note = Unknown, err.Error()
	case err != nil && len(found) == 0:
		c.State = Unknown
		c.Findings = []Finding{{c.LooksAt, "not to be looked at: " + err.Error(), c.Wanted, mendUnknown(err)}}
	case len(found) == 0:
		c.State = OK
	case c.warns:
		c.State = Warning
	default:
		c.State = Open
		if err != nil {
			c.Note = err.Error()
		}
	}
}

func mendUnknown(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "run it as root"
	}
	return "see to it that it can be read, and look again"
}

// checks gives those of the runtime that gate.json names, or all without settings.
func checks(settings *config.Config) []Check {
	found := gateChecks()
	if settings == nil || settings.Crio == nil {
		found = append(found, containerdChecks()...)
	}
	if settings == nil || settings.Crio != nil {
		found = append(found, crioChecks()...)
	}
	return found
}

func nameOf(settings *config.Config) string {
	if settings.Crio != nil {
		return "crio"
	}
	return "containerd"
}

func open(options Options, settings *config.Config) *Node {
	node := &Node{options: options, settings: settings, program: program, mainOf: mainOf}
	node.ping = sync.OnceValues(node.pingGate)
	node.servesNRI = nri.OfRuntime
	node.containerd = sync.OnceValues(node.inspectContainerd)
	node.crio = sync.OnceValues(node.inspectCrio)
	node.log = node.openLog
	if options.Record != nil {
		node.record, node.recordErr = readRecord(options.Record)
	}
	return node
}

// etc is the folder of gate.json, below which everything of ours for CRI-O lies.
func (n *Node) etc() string { return filepath.Dir(n.options.Config) }

// again says how set-up mends what it has to do with; by hand where there is none.
func (o Options) again(byHand string) string {
	if o.Setup != "" {
		return "run " + o.Setup
	}
	return byHand
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
