package main

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// setRoutes makes the kernel know every route; one that is there already is not an error.
func setRoutes(routes []route) error {
	for _, each := range routes {
		to := &net.IPNet{IP: each.To.Masked().Addr().AsSlice(), Mask: net.CIDRMask(each.To.Bits(), 32)}
		if err := netlink.RouteReplace(&netlink.Route{Dst: to, Gw: each.Via.AsSlice()}); err != nil {
			return fmt.Errorf("route to %s via %s: %w", each.To, each.Via, err)
		}
	}
	return nil
}
