// Command countersign-hook is what the container runtime executes at
// createRuntime. It hands the OCI state that it is given on stdin to the gate's
// socket and exits 0 if, and only if, the gate answers "allow" with a code that
// allows. Whatever else happens, it exits non-zero and says why on stderr.
//
// It stands in the path of every container start, so it talks to the kernel
// itself: package net and a JSON decoder would double its size and start time.
package main

import (
	"os"
	"syscall"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/code"
)

const (
	// deadline bounds the whole run; the hook's own "timeout: 10" in the base
	// spec is the runtime's, and comes after it.
	deadline = 5 * time.Second
	// maxState bounds the OCI state, maxAnswer the gate's answer. With the line
	// before the state a request stays within the gate's own bound.
	maxState  = maxAnswer - len(request)
	maxAnswer = 1 << 20
	// maxName bounds the image's name in a sentence.
	maxName = 255
	// request is the first line of the request.
	request = "create\n"
)

// failure is a refusal that the hook pronounces by itself.
type failure struct {
	code  code.Code
	found string
	do    string
}

const doStart = "start countersign-gate and look at its log"

func main() {
	// One watchdog covers everything that could block: stdin, connect, write
	// and read. os.Exit in it ends the process whatever main is doing.
	time.AfterFunc(deadline, func() {
		refuse("", &failure{code.Timeout, "no verdict within " + deadline.String(), doStart})
	})
	socket, ok := socketFrom(os.Args[1:])
	if !ok {
		refuse("", &failure{code.GateDown, "wrong arguments", "write the hook as [countersign-hook --socket PATH]"})
	}
	state, fail := readState()
	if fail != nil {
		refuse("", fail)
	}
	answer, fail := call(socket, state)
	if fail != nil {
		refuse(subject(state), fail)
	}
	allowed, sentence, fail := judge(answer)
	if fail != nil {
		refuse(subject(state), fail)
	}
	if !allowed {
		exit(sentence)
	}
	os.Exit(0)
}

// socketFrom reads the arguments; there are no others than --socket PATH.
func socketFrom(args []string) (string, bool) {
	if len(args) != 2 || args[0] != "--socket" || args[1] == "" {
		return "", false
	}
	return args[1], true
}

// readState reads stdin to its end, within maxState.
func readState() ([]byte, *failure) {
	state, whole, err := readAll(0, maxState)
	switch {
	case err != nil:
		return nil, &failure{code.Malformed, "OCI state unreadable: " + err.Error(), "look at the runtime's log"}
	case !whole:
		return nil, &failure{code.Malformed, "OCI state over 1 MiB", "make the container's annotations smaller"}
	case len(state) == 0:
		return nil, &failure{code.Malformed, "no OCI state on stdin", "run this as a createRuntime hook"}
	}
	return state, nil
}

// call sends one "create" request and returns the whole answer.
func call(socket string, state []byte) ([]byte, *failure) {
	down := func(what string, err error) *failure {
		return &failure{code.GateDown, what + " " + socket + ": " + err.Error(), doStart}
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, down("socket for", err)
	}
	if err := retry(func() error { return syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}) }); err != nil {
		return nil, down("connect to", err)
	}
	peer, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return nil, down("peer of", err)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return nil, &failure{code.GateDown, "the process at " + socket + " is not root's", doStart}
	}
	// A gate that refuses early may stop reading: its answer still counts, so a
	// failed write is not an error of its own.
	writeErr := writeAll(fd, append([]byte(request), state...))
	if writeErr == nil {
		writeErr = syscall.Shutdown(fd, syscall.SHUT_WR)
	}
	answer, whole, err := readAll(fd, maxAnswer)
	switch {
	case err == nil && whole && len(answer) > 0:
		return answer, nil
	case err != nil:
		return nil, down("read from", err)
	case !whole:
		return nil, &failure{code.GateDown, "answer over 1 MiB from " + socket, doStart}
	case writeErr != nil:
		return nil, down("write to", writeErr)
	}
	return nil, &failure{code.GateDown, "no answer from " + socket, doStart}
}

// judge reads the answer: "allow CODE" or "refuse CODE", then the sentence, then
// the verdict, each ended by a newline. Anything else is a failure.
func judge(answer []byte) (allowed bool, sentence string, fail *failure) {
	first, rest, ok := cut(answer)
	if !ok {
		return false, "", &failure{code.GateDown, "answer cut short", doStart}
	}
	word, c, ok := cutString(first, ' ')
	known := ok && code.Known(code.Code(c))
	if known && word == "allow" && code.Code(c).Allows() {
		return true, "", nil
	}
	if sentence, _, ok = cut(rest); known && ok && word == "refuse" && !code.Code(c).Allows() {
		return false, sentence, nil
	}
	return false, "", &failure{code.GateDown, "answer not understood: " + clean.Line(first, 80), "install gate and hook of one version"}
}

// subject finds the image's name in the state, for the sentence only: nothing is
// decided by it.
func subject(state []byte) string {
	s := string(state)
	for _, key := range [...]string{`"io.kubernetes.cri.image-name":`, `"io.kubernetes.cri-o.ImageName":`} {
		for i := 0; i+len(key) < len(s); i++ {
			if s[i:i+len(key)] != key {
				continue
			}
			if _, after, ok := cutString(s[i+len(key):], '"'); ok {
				name, _, _ := cutString(after, '"')
				return clean.Line(name, maxName)
			}
		}
	}
	return ""
}

// refuse ends the process with the sentence of a failure.
func refuse(image string, f *failure) {
	if image == "" {
		image = "this container"
	}
	exit("countersign: refused " + image + ": " + string(f.code) + ": " + f.found + "; expected a verdict from the gate; " + f.do)
}

// exit writes one sentence, which goes into logs and events, to stderr and ends the process.
func exit(sentence string) {
	_ = writeAll(2, []byte(clean.Line(sentence, 4096)+"\n")) // nobody is left to tell
	os.Exit(1)
}

func cut(b []byte) (line string, rest []byte, ok bool) {
	for i, c := range b {
		if c == '\n' {
			return string(b[:i]), b[i+1:], true
		}
	}
	return string(b), nil, false
}

func cutString(s string, sep byte) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

// readAll reads fd to its end; whole is false if there is more than limit.
func readAll(fd, limit int) (content []byte, whole bool, err error) {
	buffer := make([]byte, 8<<10)
	for used := 0; ; {
		if used == len(buffer) {
			buffer = append(buffer, make([]byte, len(buffer))...)
		}
		var n int
		err := retry(func() (err error) { n, err = syscall.Read(fd, buffer[used:]); return err })
		if err != nil {
			return nil, false, err
		}
		if n == 0 {
			return buffer[:used], true, nil
		}
		if used += n; used > limit {
			return nil, false, nil
		}
	}
}

func writeAll(fd int, content []byte) error {
	for len(content) > 0 {
		var n int
		err := retry(func() (err error) { n, err = syscall.Write(fd, content); return err })
		if err != nil {
			return err
		}
		content = content[n:]
	}
	return nil
}
