package agent

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"countersign/gate/internal/relay"
)

func TestTheAPIServerSaysWhoMayScrape(t *testing.T) {
	for name, c := range map[string]struct {
		token, access string
		status        int
		want          error
	}{
		"who may":                {`{"status":{"authenticated":true,"user":{"username":"u","groups":["g"]}}}`, `{"status":{"allowed":true}}`, 0, nil},
		"nobody":                 {`{"status":{"authenticated":false}}`, `{"status":{"allowed":true}}`, 0, relay.ErrNobody},
		"nobody by name":         {`{"status":{"authenticated":true,"user":{}}}`, `{"status":{"allowed":true}}`, 0, relay.ErrNobody},
		"who may not":            {`{"status":{"authenticated":true,"user":{"username":"u"}}}`, `{"status":{"allowed":false}}`, 0, relay.ErrForbidden},
		"who was denied":         {`{"status":{"authenticated":true,"user":{"username":"u"}}}`, `{"status":{"allowed":true,"denied":true}}`, 0, relay.ErrForbidden},
		"the API server is away": {"", "", http.StatusServiceUnavailable, errUnsaid},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body struct {
					Spec struct {
						Token, User string
						Groups      []string
						Attributes  struct{ Path, Verb string } `json:"nonResourceAttributes"`
					}
				}
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
					t.Error(err)
				}
				spec, said := body.Spec, c.access
				switch {
				case c.status != 0:
					w.WriteHeader(c.status)
					return
				case r.URL.Path == "/apis/authentication.k8s.io/v1/tokenreviews":
					said = c.token
					if spec.Token != "secret" {
						t.Errorf("asked about %q", spec.Token)
					}
				case spec.User != "u" || spec.Attributes.Path != "/metrics" || spec.Attributes.Verb != "get":
					t.Errorf("asked %+v", spec)
				}
				_, _ = w.Write([]byte(said))
			}))
			defer server.Close()
			api := &API{URL: server.URL, Token: func() (string, error) { return "own", nil }, HTTP: server.Client()}
			err := api.MayScrape(t.Context(), "secret")
			if c.want == errUnsaid {
				if err == nil || errors.Is(err, relay.ErrNobody) || errors.Is(err, relay.ErrForbidden) {
					t.Errorf("got %v", err)
				}
			} else if !errors.Is(err, c.want) {
				t.Errorf("got %v, expected %v", err, c.want)
			}
		})
	}
}

var errUnsaid = errors.New("not said")
