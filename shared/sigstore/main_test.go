package main

import (
	"strings"
	"testing"
)

func TestOnlyLoopbackIsServed(t *testing.T) {
	for address, good := range map[string]bool{
		"127.0.0.1:8080": true,
		"[::1]:8080":     true,
		"0.0.0.0:8080":   false,
		"[::]:8080":      false,
		"10.0.0.1:8080":  false,
		":8080":          false,
		"localhost:8080": false,
		"":               false,
	} {
		if _, err := loopback(address); (err == nil) != good {
			t.Errorf("loopback(%q) = %v", address, err)
		}
	}
}

func TestAnAddressBeyondLoopbackStopsAService(t *testing.T) {
	err := run([]string{"issuer", "--address", "0.0.0.0:0", "--dir", t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownServiceIsNamed(t *testing.T) {
	if err := run([]string{"dex"}); err == nil || !strings.Contains(err.Error(), "dex") {
		t.Errorf("got %v", err)
	}
}
