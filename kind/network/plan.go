package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// A node is what matters of one: its name, its address on the Docker network, and the addresses of its pods.
type node struct {
	Name    string
	Address netip.Addr
	Pods    netip.Prefix
}

// A route leads to the pods of another node.
type route struct {
	To  netip.Prefix
	Via netip.Addr
}

// plan returns the pod range of the node self, empty while it has none, and the routes to all other nodes.
func plan(nodes []node, self string) (own string, routes []route, err error) {
	known := false
	for _, each := range nodes {
		switch {
		case each.Name == self:
			known = true
			if each.Pods.IsValid() {
				own = each.Pods.String()
			}
		case each.Pods.IsValid() && each.Address.IsValid():
			routes = append(routes, route{To: each.Pods, Via: each.Address})
		}
	}
	if !known {
		return "", nil, fmt.Errorf("the API server knows no node %q", self)
	}
	slices.SortFunc(routes, func(a, b route) int { return a.To.Addr().Compare(b.To.Addr()) })
	return own, routes, nil
}

// cniConfig returns the CNI network configuration list of a node (CNI specification, "Network configuration format").
//
// Addresses come from own, and carry the mask of all pods: what ptp takes for its own network is not masqueraded.
func cniConfig(own, pods string) ([]byte, error) {
	of, err := netip.ParsePrefix(own)
	if err != nil {
		return nil, fmt.Errorf("the node's pod range: %w", err)
	}
	all, err := netip.ParsePrefix(pods)
	if err != nil {
		return nil, fmt.Errorf("POD_SUBNET: %w", err)
	}
	if all.Bits() > of.Bits() || !all.Contains(of.Addr()) {
		return nil, fmt.Errorf("the node's pod range %s lies outside of %s", of, all)
	}
	gateway := of.Masked().Addr().Next()
	list := map[string]any{
		"cniVersion": "0.4.0",
		"name":       "countersign",
		"plugins": []any{
			map[string]any{
				"type":   "ptp",
				"ipMasq": true,
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": "/run/cni-ipam-state",
					"routes":  []any{map[string]any{"dst": "0.0.0.0/0"}},
					"ranges": []any{[]any{map[string]any{
						"subnet":     all.Masked().String(),
						"rangeStart": gateway.Next().String(),
						"rangeEnd":   last(of).Prev().String(),
						"gateway":    gateway.String(),
					}}},
				},
			},
			map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		},
	}
	return json.MarshalIndent(list, "", "  ")
}

// last returns the last address of a prefix of IPv4.
func last(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Masked().Addr().As4()
	for bit := prefix.Bits(); bit < 32; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(bytes)
}

// writeIfChanged puts a file into a folder in one step, so that the kubelet never reads half of it.
func writeIfChanged(folder, name string, content []byte) error {
	path := filepath.Join(folder, name)
	if found, err := os.ReadFile(path); err == nil && string(found) == string(content) {
		return nil
	}
	temporary := filepath.Join(folder, "."+name)
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
