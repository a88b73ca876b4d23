package main

import (
	"context"
	"strings"
	"testing"
)

func TestAddressesBeyondLoopbackWantToBeAskedFor(t *testing.T) {
	over := secureAddress{address: "0.0.0.0:0", certificate: "none.crt", key: "none.key"}
	for _, each := range []struct {
		name, address string
		secure        secureAddress
		any           bool
		want          string
	}{
		{"plain", "0.0.0.0:0", secureAddress{}, false, `--address "0.0.0.0:0" is not a loopback address`},
		{"a name", "localhost:0", secureAddress{}, false, `--address "localhost:0" is not a loopback address`},
		{"TLS", "127.0.0.1:0", over, false, `--tls-address "0.0.0.0:0" is not a loopback address`},
		{"TLS that was asked for, without its files", "127.0.0.1:0", over, true, "none.crt"},
	} {
		t.Run(each.name, func(t *testing.T) {
			err := serve(context.Background(), each.address, each.secure, each.any, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), each.want) {
				t.Errorf("got %v, want %s", err, each.want)
			}
		})
	}
}
