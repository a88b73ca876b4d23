package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"countersign/gate/internal/code"
	"countersign/gate/internal/fakecontainerd"
	"countersign/gate/internal/wire"
)

// attack has what a terminal obeys, or a reader
// does not see.
const attack = "\x1b[2J\x1b]0;pwned\x07\u009b31m\u202egnp.exe\u2066\u200b\x7f"

func hostile(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	body := `{"errors":[{"code":"UNKNOWN","message":"` + attack + `"}]}`
	fmt.Fprintf(conn, "HTTP/1.1 500 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", attack, len(body), body)
}

// harmless fails on whatever may not reach a terminal.
func harmless(t *testing.T, where, text string) {
	t.Helper()
	if text == "" || !utf8.ValidString(text) {
		t.Errorf("%s: %q", where, text)
	}
	for _, r := range text {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
			t.Errorf("%s: %U in %q", where, r, text)
			return
		}
	}
}

func TestWhatARegistryAndAPodSayIsHarmlessWhereverItIsShown(t *testing.T) {
	p := newPlace(t)
	p.registry.Handler = http.HandlerFunc(hostile)
	p.start()
	state := fakecontainerd.State(t, container, p.name)
	odd := strings.ReplaceAll(string(state), p.name, p.name+attack[len(attack)-8:])
	for name, body := range map[string]string{"its own name": string(state), "an odd name": odd, "no state": attack} {
		v, err := wire.Call(context.Background(), p.settings.Socket, wire.Create, []byte(body))
		if err != nil || v.Allow {
			t.Fatalf("%s: %+v, %v", name, v, err)
		}
		for _, text := range append(v.Details, v.Message) {
			harmless(t, name, text)
		}
	}
	exit, out := p.verifier()
	harmless(t, "verifier", out)
	if exit != exitRefused || !strings.Contains(out, string(code.RegistryError)) && !strings.Contains(out, string(code.NoEvidenceOffline)) {
		t.Errorf("exit %d, %q", exit, out)
	}
	for _, command := range [][]string{{"verify", p.name}, {"verify", "--json", p.name}, {"explain", p.name}, {"verify", p.name + attack}, {"explain", attack}} {
		exit, out, _ := p.do(append(command, "--config", p.config)...)
		if exit != exitRefused {
			t.Errorf("%q: exit %d", command, exit)
		}
		harmless(t, command[0], out)
	}
	log, err := os.ReadFile(filepath.Join(p.dir, "verdicts.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	harmless(t, "verdict log", string(log))
	if !strings.Contains(string(log), `\\u001b[2J`) {
		t.Errorf("what the registry said is nowhere in the log: %s", log)
	}
}

func TestWhatTheCommandLineIsGivenIsHarmlessInItsErrors(t *testing.T) {
	p := newPlace(t)
	path := p.write("policy"+attack+".json", map[string]any{"version": attack})
	for _, command := range [][]string{{attack}, {"verify", "--" + attack}, {"check-policy", path}, {"serve", "--config", "/" + attack}} {
		exit, _, errors := p.do(command...)
		if exit == exitOK || strings.Count(errors, "\n") != 1 {
			t.Errorf("%q: exit %d, %q", command, exit, errors)
		}
		harmless(t, command[0], errors)
	}
}
