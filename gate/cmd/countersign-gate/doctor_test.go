package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"countersign/gate/internal/doctor"
)

func TestDoctorNamesWhatItWouldLookAt(t *testing.T) {
	p := newPlace(t)
	exit, out, stderr := p.do("doctor", "--list", "--config", p.config)
	if exit != exitOK || !strings.Contains(out, "containerd.use_local_image_pull") || strings.Contains(out, "crio.") || !strings.Contains(out, "nothing was looked at") {
		t.Errorf("exit %d, %s%s", exit, out, stderr)
	}
}

// A containerd that answers no CRI is open; what the gate itself answers is told all
// the same.
func TestDoctorTellsWhatIsOpen(t *testing.T) {
	p := newPlace(t)
	for _, running := range []bool{false, true} {
		if running {
			p.start()
		}
		exit, out, stderr := p.do("doctor", "--config", p.config, "--setup", "./set-up")
		if exit != exitRefused || strings.Contains(out, "✓ gate.answers") != running || !strings.Contains(out, "✗ containerd.answers") || !strings.Contains(out, "fix: run ./set-up") {
			t.Errorf("running %v: exit %d, %s%s", running, exit, out, stderr)
		}
	}
	exit, out, _ := p.do("doctor", "--json", "--config", p.config)
	var report doctor.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || exit != exitRefused || report.OK || report.Version != doctor.Version || report.Count(doctor.Open) == 0 {
		t.Errorf("exit %d, %+v, %v", exit, report, err)
	}
}

func TestDoctorReadsARecord(t *testing.T) {
	p := newPlace(t)
	p.start()
	good := filepath.Join(p.dir, "record.json")
	for content, says := range map[string]string{
		`{"version": "countersign.record/v1", "files": {"/nowhere/file": {"kind": "f", "mode": 420, "sha256": "0"}}}`: "/nowhere/file is missing",
		`{}`: "the record of set-up",
	} {
		if err := os.WriteFile(good, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if exit, out, _ := p.do("doctor", "--config", p.config, "--record", good); exit != exitRefused || !strings.Contains(out, says) {
			t.Errorf("exit %d, %s", exit, out)
		}
	}
	if exit, _, stderr := p.do("doctor", "--config", p.config, "--record", "/nowhere/record"); exit != exitUsage || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

func TestDoctorsExitCodeIsThatOfTheWorst(t *testing.T) {
	for _, test := range []struct {
		states []doctor.State
		exit   int
	}{
		{[]doctor.State{doctor.OK, doctor.Skipped, doctor.Warning, doctor.Listed}, exitOK},
		{[]doctor.State{doctor.OK, doctor.Unknown}, exitInfrastructure},
		{[]doctor.State{doctor.Unknown, doctor.Open}, exitRefused},
	} {
		report := &doctor.Report{}
		for _, state := range test.states {
			report.Checks = append(report.Checks, doctor.Check{State: state})
		}
		if exit := worst(report); exit != test.exit {
			t.Errorf("%v: exit %d, expected %d", test.states, exit, test.exit)
		}
	}
}
