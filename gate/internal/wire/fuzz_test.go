package wire

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzReadRequest checks that what is read is within the bound, and an operation
// that there is.
func FuzzReadRequest(f *testing.F) {
	for _, seed := range []string{"create\n{}", "ping\n", "pull\n{\"name\":\"n\"}", "halt\n", "create", "\n", "create\x00\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		op, body, err := ReadRequest(bytes.NewReader(request))
		if err == nil && (string(op)+"\n"+string(body) != string(request) || !strings.Contains("create pull verify explain ping", string(op))) {
			t.Errorf("%q: %q, %q", request, op, body)
		}
	})
}

// FuzzReadResponse checks that what is taken for an answer says one thing only, and
// can be passed on.
func FuzzReadResponse(f *testing.F) {
	for _, seed := range []string{
		"allow OK\nfine\n{\"allow\":true,\"code\":\"OK\"}\n",
		"refuse UNSIGNED\nno\n{\"allow\":false,\"code\":\"UNSIGNED\"}\n",
		"allow OK\nfine\n{\"allow\":false,\"code\":\"OK\"}\n", "refuse UNSIGNED\nno\n{\"allow\":true,\"code\":\"UNSIGNED\"}\n", "allow OK\n", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		v, err := ReadResponse(bytes.NewReader(response))
		if err != nil {
			return
		}
		if allowed := bytes.HasPrefix(response, []byte("allow ")); v.Allow != allowed || allowed && !v.Code.Allows() {
			t.Errorf("%q: %+v", response, v)
		}
		var again bytes.Buffer
		if err := WriteResponse(&again, v); err != nil {
			t.Fatal(err)
		}
		same, err := ReadResponse(&again)
		if err != nil || same.Code != v.Code || same.Allow != v.Allow {
			t.Errorf("%q became %+v, %v", response, same, err)
		}
	})
}
