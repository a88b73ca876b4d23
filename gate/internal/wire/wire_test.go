package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/verdict"
)

func TestReadRequest(t *testing.T) {
	for _, test := range []struct {
		name, request string
		op            Op
		body          string
		err           error
	}{
		{"create", "create\n{}", Create, "{}", nil},
		{"a body with lines", "pull\na\nb\n", Pull, "a\nb\n", nil},
		{"no body", "ping\n", Ping, "", nil},
		{"no end of line", "ping", Ping, "", ErrUnknownOp},
		{"unknown", "stop\n", "", "", ErrUnknownOp},
		{"nothing", "", "", "", ErrUnknownOp},
		{"upper case", "CREATE\n{}", "", "", ErrUnknownOp},
		{"at the bound", "create\n" + strings.Repeat("x", MaxMessage-7), Create, strings.Repeat("x", MaxMessage-7), nil},
		{"over the bound", "create\n" + strings.Repeat("x", MaxMessage-6), Create, strings.Repeat("x", MaxMessage-7), ErrTooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			op, body, err := ReadRequest(strings.NewReader(test.request))
			if op != test.op || string(body) != test.body || !errors.Is(err, test.err) {
				t.Errorf("got %q, %d bytes, %v", op, len(body), err)
			}
		})
	}
}

func TestResponseRoundTrip(t *testing.T) {
	for _, c := range code.All {
		var b bytes.Buffer
		v := &verdict.Verdict{Code: c, Allow: c.Allows(), Message: "two\nlines\x00 and " + strings.Repeat("long ", 1000)}
		if err := WriteResponse(&b, v); err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(b.Bytes(), []byte("\n")); lines != 3 {
			t.Errorf("%s: %d lines", c, lines)
		}
		got, err := ReadResponse(&b)
		if err != nil || got.Code != c || got.Allow != c.Allows() {
			t.Errorf("%s: got %+v, %v", c, got, err)
		}
	}
}

func TestAllowNeedsAnAllowingCode(t *testing.T) {
	var b bytes.Buffer
	if err := WriteResponse(&b, &verdict.Verdict{Code: code.Unsigned, Allow: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "refuse UNSIGNED\n") {
		t.Errorf("got %q", b.String())
	}
}

func TestReadResponseRefuses(t *testing.T) {
	for name, response := range map[string]string{
		"nothing":                   "",
		"cut short":                 "allow OK\nfine\n{\"allow\":true,\"code\":\"OK\"}",
		"a line too many":           "allow OK\nfine\n{\"allow\":true,\"code\":\"OK\"}\nx",
		"no JSON":                   "allow OK\nfine\nyes\n",
		"first line contradicts":    "allow OK\nfine\n{\"allow\":false,\"code\":\"UNSIGNED\"}\n",
		"document contradicts":      "refuse UNSIGNED\nfine\n{\"allow\":true,\"code\":\"OK\"}\n",
		"allow with a refusal code": "allow UNSIGNED\nfine\n{\"allow\":true,\"code\":\"UNSIGNED\"}\n",
		"a code of the future":      "refuse MAYBE\nfine\n{\"code\":\"MAYBE\"}\n",
	} {
		if v, err := ReadResponse(strings.NewReader(response)); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("%s: got %+v, %v", name, v, err)
		}
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = Call(ctx, path, Ping, nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("got %v after %s", err, time.Since(start))
	}
}

func TestAskSendsRawBytesAndJSON(t *testing.T) {
	for _, test := range []struct {
		body any
		want string
	}{{[]byte("raw"), "create\nraw"}, {NameRequest{"x"}, "create\n{\"name\":\"x\"}"}, {nil, "create\n"}} {
		path := filepath.Join(t.TempDir(), "gate.sock")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			content, _ := io.ReadAll(conn)
			got <- string(content)
			_ = WriteResponse(conn, &verdict.Verdict{Allow: true, Code: code.OK})
		}()
		v, err := Call(context.Background(), path, Create, test.body)
		if err != nil || !v.Allow {
			t.Errorf("got %+v, %v", v, err)
		}
		if request := <-got; request != test.want {
			t.Errorf("got %q, expected %q", request, test.want)
		}
		listener.Close()
	}
}
