package install

import "golang.org/x/sys/unix"

// hasSysResource says whether this node has CAP_SYS_RESOURCE at all: without it no unit
// can lower its OOM score.
func hasSysResource() bool {
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	return err == nil && has == 1
}
