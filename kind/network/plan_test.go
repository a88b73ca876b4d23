package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const list = `{"items": [
 {"metadata": {"name": "a"}, "spec": {"podCIDR": "10.244.0.0/24"}, "status": {"addresses": [
   {"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "172.18.0.3"}]}},
 {"metadata": {"name": "b"}, "spec": {"podCIDR": "10.244.1.0/24"}, "status": {"addresses": [
   {"type": "InternalIP", "address": "172.18.0.2"}, {"type": "InternalIP", "address": "fc00::2"}]}},
 {"metadata": {"name": "new"}, "spec": {}, "status": {}}]}`

func TestPlanHasARouteToEveryOtherNodeThatHasPods(t *testing.T) {
	nodes, err := parseNodes([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	own, routes, err := plan(nodes, "a")
	if err != nil {
		t.Fatal(err)
	}
	want := []route{{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("172.18.0.2")}}
	if own != "10.244.0.0/24" || !reflect.DeepEqual(routes, want) {
		t.Fatalf("got %s and %v, want 10.244.0.0/24 and %v", own, routes, want)
	}
}

func TestPlanOfANodeWithoutARangeHasRoutesOnly(t *testing.T) {
	nodes, _ := parseNodes([]byte(list))
	own, routes, err := plan(nodes, "new")
	if err != nil || own != "" || len(routes) != 2 {
		t.Fatalf("got %q, %v, %v", own, routes, err)
	}
}

func TestPlanOfAnUnknownNodeIsAnError(t *testing.T) {
	nodes, _ := parseNodes([]byte(list))
	if _, _, err := plan(nodes, "c"); err == nil || !strings.Contains(err.Error(), `knows no node "c"`) {
		t.Fatalf("got %v", err)
	}
}

func TestAddressesComeFromTheNodesRangeWithTheMaskOfAllPods(t *testing.T) {
	content, err := cniConfig("10.244.1.0/24", "10.244.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Plugins []struct {
			Ipam struct {
				Ranges [][]map[string]string
			}
		}
	}
	if err := json.Unmarshal(content, &found); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"subnet": "10.244.0.0/16", "rangeStart": "10.244.1.2", "rangeEnd": "10.244.1.254", "gateway": "10.244.1.1",
	}
	if got := found.Plugins[0].Ipam.Ranges[0][0]; !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestARangeOutsideOfAllPodsIsRefused(t *testing.T) {
	if _, err := cniConfig("10.245.1.0/24", "10.244.0.0/16"); err == nil || !strings.Contains(err.Error(), "lies outside") {
		t.Fatalf("got %v", err)
	}
}

func TestAFileThatIsTheSameIsNotWrittenAgain(t *testing.T) {
	folder := t.TempDir()
	for _, content := range []string{"one", "one", "two"} {
		if err := writeIfChanged(folder, "x", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if found, _ := os.ReadFile(filepath.Join(folder, "x")); string(found) != content {
			t.Fatalf("got %q, want %q", found, content)
		}
	}
	if entries, _ := os.ReadDir(folder); len(entries) != 1 {
		t.Fatalf("left behind: %v", entries)
	}
}
