package registry

import "testing"

// A pod that is not root gets a secret by its group; everybody else's logins stay the
// owner's alone.
func TestWhoMayReadLogins(t *testing.T) {
	for _, test := range []struct {
		name          string
		owner, reader int
		mode          uint32
		ok            bool
	}{
		{"a node's gate", 0, 0, 0o600, true},
		{"a node's gate, by a group too", 0, 0, 0o640, false},
		{"a user's own", 1000, 1000, 0o600, true},
		{"a user's own, by a group too", 1000, 1000, 0o640, false},
		{"a pod's secret", 0, 1000, 0o440, true},
		{"a pod's secret that all may read", 0, 1000, 0o444, false},
		{"a pod's secret that its group may write", 0, 1000, 0o460, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if ok := test.mode&uint32(forbidden(test.owner, test.reader)) == 0; ok != test.ok {
				t.Errorf("%#o: %v", test.mode, ok)
			}
		})
	}
}
