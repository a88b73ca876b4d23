package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestACrioThatCannotEnforceIsToldBeforehand(t *testing.T) {
	folder := t.TempDir()
	config := func(handler, policies string) map[string]any {
		return map[string]any{
			"runtime": map[string]any{"runtimes": map[string]any{"runc": map[string]any{"runtime_type": handler}}},
			"image":   map[string]any{"signature_policy_dir": policies},
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "loose.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		version, handler, policies, dropIns string
		elsewhere                           bool
		says                                string
	}{
		"as it is":                {version: "1.37.0"},
		"the oldest":              {version: "1.34.0"},
		"too old":                 {version: "1.33.9", says: "expected 1.34 or newer"},
		"a candidate":             {version: "1.34.0-rc.1", says: "expected 1.34 or newer"},
		"no version":              {version: "unknown", says: `says that its version is "unknown"`},
		"in a container":          {version: "1.37.0", elsewhere: true, says: "runs in a container"},
		"a handler without hooks": {version: "1.37.0", handler: "vm", says: `the runtime handler runc of CRI-O is of the type "vm"`},
		"a namespace's policy":    {version: "1.37.0", policies: folder, says: "loose.json is a policy for one namespace"},
		"no folder of drop-ins":   {version: "1.37.0", dropIns: "-", says: "reads no folder"},
	} {
		t.Run(name, func(t *testing.T) {
			dropIns := strings.TrimPrefix("/etc/crio/crio.conf.d"+c.dropIns, "/etc/crio/crio.conf.d-")
			found := crioRefused(&Crio{Version: c.version, DropIns: dropIns, Config: config(c.handler, c.policies)}, !c.elsewhere)
			if (found == "") != (c.says == "") || !strings.Contains(found, c.says) {
				t.Errorf("got %q, expected %q", found, c.says)
			}
		})
	}
}

func TestWhereACrioReadsItsConfigurationIsItsCommandLines(t *testing.T) {
	for _, c := range []struct{ line, file, dropIns string }{
		{"crio", crioConfigFile, crioDropIns},
		{"crio --config /a.conf --config-dir /a.d", "/a.conf", "/a.d"},
		{"crio -c /a.conf -d=/a.d", "/a.conf", "/a.d"},
		{"crio --config-dir= --log-level debug", crioConfigFile, ""},
		{"crio config-dir /no", crioConfigFile, crioDropIns},
	} {
		file, dropIns := crioFiles(os.Getpid(), strings.Fields(c.line))
		if file != c.file || dropIns != c.dropIns {
			t.Errorf("%s: got %q, %q", c.line, file, dropIns)
		}
	}
}

func TestNoCheckpointIsRestoredByTheSettingThatThisCrioHas(t *testing.T) {
	for name, c := range map[string]struct{ has, wanted string }{
		"an older one":      {`{}`, "runtime/enable_criu_support=false"},
		"both":              {`{"criu": true, "table": "checkpoint_restore"}`, "runtime/enable_criu_support=false"},
		"the table":         {`{"table": "checkpoint_restore"}`, "checkpoint_restore/pod_enabled=none"},
		"as it should be":   {`{"table": "none"}`, "checkpoint_restore/pod_enabled=none"},
		"checkpoints alone": {`{"table": "checkpoint_only"}`, "checkpoint_restore/pod_enabled=checkpoint_only"},
	} {
		t.Run(name, func(t *testing.T) {
			config := map[string]any{"runtime": map[string]any{}}
			if strings.Contains(c.has, "criu") {
				config["runtime"] = map[string]any{"enable_criu_support": true}
			}
			if _, value, ok := strings.Cut(c.has, `"table": "`); ok {
				config["checkpoint_restore"] = map[string]any{"pod_enabled": strings.Trim(value, `"}`)}
			}
			var got []string
			for path, value := range (&Crio{Config: config}).RestoresNone() {
				got = append(got, path+"="+strings.Trim(shown(value), `"`))
			}
			if strings.Join(got, " ") != c.wanted {
				t.Errorf("got %q, expected %q", got, c.wanted)
			}
		})
	}
}
