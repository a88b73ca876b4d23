package install

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"countersign/gate/internal/config"
)

// place gives one of the descriptions that tests/unit/enforcement holds set-up to.
func place(t *testing.T, name string) map[string]any {
	t.Helper()
	content, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var found map[string]any
	if err := json.Unmarshal(content, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func filesOf(t *testing.T, place map[string]any) (*Written, error) {
	t.Helper()
	content, err := json.Marshal(place)
	if err != nil {
		t.Fatal(err)
	}
	return Files(content)
}

func TestAPlaceGetsTheGateJSONOfItsRuntime(t *testing.T) {
	for name, holds := range map[string]func(*config.Config) bool{
		"containerd.json": func(c *config.Config) bool {
			return c.Crio == nil && c.Containerd.Address == "/run/c.sock" && c.Containerd.NRI == "/run/nri.sock" && c.Containerd.Hook == "/p/bin/countersign-hook"
		},
		"crio.json": func(c *config.Config) bool {
			return c.Crio != nil && *c.Crio == config.Crio{Root: "/srv/storage", RunRoot: "/run/storage", Socket: "/run/crio.sock", NRI: "/run/nri.sock", Hook: "/p/bin/countersign-hook"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := filesOf(t, place(t, name))
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse([]byte(found.Files["/p/etc/gate.json"]))
			if err != nil {
				t.Fatal(err)
			}
			if !holds(c) || c.Policy != "/p/etc/policy.json" || c.Socket != "/p/run/gate.sock" || c.Evidence.Dir != "/p/lib/evidence" || c.Registry.CertsDir != "/p/certs" || c.Registry.DockerConfig != "/p/etc/docker.json" {
				t.Errorf("got %+v", c)
			}
			if len(c.PolicyKeys) != 1 || *c.Registry.CredentialProviders != (config.CredentialProviders{Config: "/etc/providers.yaml", BinDir: "/opt/bin"}) {
				t.Errorf("got %+v", c)
			}
			if len(c.Pinned) != 0 { // what a node itself needs is pinned in its policy, where set-up renders that
				t.Errorf("got %v", c.Pinned)
			}
		})
	}
}

func TestAPlaceGetsItsBaseSpecsWithTheHook(t *testing.T) {
	found, err := filesOf(t, place(t, "containerd.json"))
	if err != nil {
		t.Fatal(err)
	}
	spec := found.Files["/p/etc/base-runc.json"]
	for _, want := range []string{`"/p/bin/countersign-hook"`, `"/p/run/gate.sock"`, "9223372036854771712"} {
		if !strings.Contains(spec, want) {
			t.Errorf("%s is missing: %s", want, spec)
		}
	}
	if strings.Contains(spec, "rlimits") {
		t.Errorf("got %s", spec)
	}
}

func TestAPlaceGetsWhatItsContainerdHasToSay(t *testing.T) {
	for name, c := range map[string]struct {
		told map[string]any
		nri  string
		want map[string]any // path below "plugins" -> value; nil for none
	}{
		"all of it": {nil, "/run/nri.sock", map[string]any{
			verifiers + "/bin_dir":                                     "/p/verifiers",
			criImages + "/use_local_image_pull":                        false,
			criImages + "/pinned_images/sandbox":                       "registry.example/pause@sha256:" + strings.Repeat("a", 64),
			criImages + "/registry/config_path":                        "/mine",
			criRuntime + "/enable_criu":                                false,
			criRuntime + "/restrict_oom_score_adj":                     true,
			criRuntime + "/containerd/runtimes/runc/base_runtime_spec": "/p/etc/base-runc.json",
			nriPlugin + "/socket_path":                                 "/run/nri.sock",
			nriPlugin + "/default_validator/enable":                    true,
			nriPlugin + "/default_validator/required_plugins":          []any{"mine", "countersign"},

			nriPlugin + "/default_validator/tolerate_missing_plugins_annotation": "",

			transfer + "/unpack_config": []any{map[string]any{"platform": "linux/amd64", "snapshotter": "native", "differ": "walking"}},
		}},
		"before checkpoints were a setting": {map[string]any{"version": "2.3.9"}, "/run/nri.sock", map[string]any{criRuntime + "/enable_criu": nil, nriPlugin + "/default_validator/enable": true}},
		"before a plugin could be required": {map[string]any{"version": "2.1.9"}, "", map[string]any{nriPlugin: nil}},
		"no plugin wanted":                  {nil, "", map[string]any{nriPlugin: nil}},
		"nothing set":                       {map[string]any{"config": nil, "lacksResource": false}, "/run/nri.sock", map[string]any{criImages + "/registry/config_path": "/p/certs", criRuntime + "/restrict_oom_score_adj": nil, transfer: nil}},
	} {
		t.Run(name, func(t *testing.T) {
			p := place(t, "containerd.json")
			containerd := p["containerd"].(map[string]any)
			containerd["nri"] = c.nri
			maps.Copy(containerd["told"].(map[string]any), c.told)
			found, err := filesOf(t, p)
			if err != nil {
				t.Fatal(err)
			}
			content, err := json.Marshal(found.Plugins)
			if err != nil {
				t.Fatal(err)
			}
			var plugins map[string]any
			if err := json.Unmarshal(content, &plugins); err != nil {
				t.Fatal(err)
			}
			for path, want := range c.want {
				if got := at(plugins, strings.Split(path, "/")); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %v, want %v", path, got, want)
				}
			}
		})
	}
}

func TestAPlaceGetsWhatItsCrioReads(t *testing.T) {
	const hook = "/p/etc/crio/hooks.d/countersign.json"
	for name, c := range map[string]struct {
		told map[string]any
		want map[string]any // path below "crio" -> value
	}{
		"a new one": {map[string]any{"config": nil}, map[string]any{
			"runtime/hooks_dir":                                    []any{"/p/etc/crio/hooks.d"},
			"runtime/enable_criu_support":                          false,
			"image/signature_policy":                               "/p/etc/crio/policy.json",
			"image/signature_policy_dir":                           "/p/etc/crio/namespaces",
			"image/pause_image":                                    "registry.example/pause@sha256:" + strings.Repeat("a", 64),
			"nri/enable_nri":                                       true,
			"nri/nri_listen":                                       "/run/nri.sock",
			"nri/nri_disable_connections":                          false,
			"nri/default_validator/nri_enable_default_validator":   true,
			"nri/default_validator/nri_validator_required_plugins": []any{"countersign"},

			"nri/default_validator/nri_validator_tolerate_missing_plugins_annotation": "",
		}},
		"one with hooks and plugins of its own": {nil, map[string]any{
			"runtime/hooks_dir": []any{"/usr/share/containers/oci/hooks.d", "/p/etc/crio/hooks.d"},
			"nri/nri_listen":    "/run/nri.sock",
			"nri/default_validator/nri_validator_required_plugins": []any{"mine", "countersign"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := place(t, "crio.json")
			maps.Copy(p["crio"].(map[string]any)["told"].(map[string]any), c.told)
			found, err := filesOf(t, p)
			if err != nil {
				t.Fatal(err)
			}
			if got := found.Crio[hook]; !strings.Contains(got, `"/p/bin/countersign-hook"`) || !strings.Contains(got, `"always": true`) || !strings.Contains(got, `"createRuntime"`) {
				t.Errorf("got %s", got)
			}
			var document map[string]any
			if err := toml.Unmarshal([]byte(found.Crio["/etc/crio/crio.conf.d/99-countersign.conf"]), &document); err != nil || len(found.Crio) != 2 || len(found.Files) != 1 {
				t.Fatalf("%v, %d files", err, len(found.Crio))
			}
			for path, want := range c.want {
				if got := at(document, strings.Split("crio/"+path, "/")); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %v, want %v", path, got, want)
				}
			}
		})
	}
	p := place(t, "crio.json")
	delete(p["crio"].(map[string]any), "told")
	if found, err := filesOf(t, p); err != nil || len(found.Crio) != 1 || found.Crio[hook] == "" {
		t.Errorf("of one of which nothing is told: %v, %v", found, err)
	}
	for _, lack := range []string{"sandbox", "dropIn"} {
		p := place(t, "crio.json")
		delete(p["crio"].(map[string]any)["told"].(map[string]any), lack)
		if _, err := filesOf(t, p); err == nil || !strings.Contains(err.Error(), "crio.told") {
			t.Errorf("without %s: %v", lack, err)
		}
	}
}

func TestWhatIsNotAPlaceIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(map[string]any)
		says   string
	}{
		"another version":    {func(p map[string]any) { p["version"] = "countersign.place/v9" }, `expected "countersign.place/v1"`},
		"two runtimes":       {func(p map[string]any) { p["crio"] = map[string]any{} }, "containerd or crio"},
		"neither":            {func(p map[string]any) { delete(p, "containerd") }, "containerd or crio"},
		"an unknown member":  {func(p map[string]any) { p["hook"] = "/bin/true" }, "unknown field"},
		"a relative folder":  {func(p map[string]any) { p["layout"].(map[string]any)["etc"] = "etc" }, "not an absolute path"},
		"a key that is none": {func(p map[string]any) { p["policyKeys"] = []string{"x"} }, "policyKeys"},
		"a version that is none": {func(p map[string]any) { p["containerd"].(map[string]any)["told"].(map[string]any)["version"] = "new" },
			`"new" is not a version of containerd`},
		"a spec that is none": {func(p map[string]any) { p["baseSpecs"] = map[string]any{"/p/etc/base-runc.json": "{}{}"} },
			"/p/etc/base-runc.json: not an OCI runtime spec"},
	} {
		t.Run(name, func(t *testing.T) {
			p := place(t, "containerd.json")
			c.change(p)
			if _, err := filesOf(t, p); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected %q", err, c.says)
			}
		})
	}
}
