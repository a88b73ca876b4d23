package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func request(authorization string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func TestOnlyWhoMayIsGivenMetrics(t *testing.T) {
	g := &guard{may: func(_ context.Context, token string) error {
		return map[string]error{"good": nil, "nobody": ErrNobody, "other": ErrForbidden}[token]
	}}
	away := &guard{may: func(context.Context, string) error { return errors.New("connection refused") }}
	for name, c := range map[string]struct {
		guard  *guard
		header string
		status int
	}{
		"a good token":           {g, "Bearer good", http.StatusOK},
		"none":                   {g, "", http.StatusUnauthorized},
		"an empty one":           {g, "Bearer ", http.StatusUnauthorized},
		"another scheme":         {g, "Basic good", http.StatusUnauthorized},
		"one too long":           {g, "Bearer " + strings.Repeat("x", maxToken+1), http.StatusUnauthorized},
		"nobody's":               {g, "Bearer nobody", http.StatusUnauthorized},
		"of one who may not":     {g, "Bearer other", http.StatusForbidden},
		"the API server is away": {away, "Bearer good", http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // asked, and remembered
				if status := c.guard.status(request(c.header)); status != c.status {
					t.Errorf("got %d, expected %d", status, c.status)
				}
			}
		})
	}
}

func TestTheAPIServerIsNotAskedWithoutEnd(t *testing.T) {
	asked := 0
	g := &guard{may: func(_ context.Context, token string) error {
		asked++
		if token == "good" {
			return nil
		}
		return ErrNobody
	}}
	for range 100 {
		if status := g.status(request("Bearer good")); status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times about one token", asked)
	}
	last := 0
	for i := range 3 * maxReviews {
		last = g.status(request(fmt.Sprintf("Bearer guess-%d", i)))
	}
	if asked != maxReviews || last != http.StatusTooManyRequests || len(g.known) > maxTokens {
		t.Errorf("asked %d times, %d at last, %d kept", asked, last, len(g.known))
	}
}

func TestWhatMayNotReadIsNotAnsweredByTLS(t *testing.T) {
	secure, err := SelfSigned("n1")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := Listen("127.0.0.1:0", secure)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- Serve(ctx, listener, "/nowhere.sock", func(_ context.Context, token string) error {
			if token != "good" {
				return ErrNobody
			}
			return nil
		})
	}()
	secureClient := secure.Clone()
	secureClient.InsecureSkipVerify = true
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: secureClient}}
	for token, status := range map[string]int{"good": http.StatusBadGateway, "bad": http.StatusUnauthorized} {
		asking, _ := http.NewRequest(http.MethodGet, "https://"+listener.Addr().String()+"/metrics", nil)
		asking.Header.Set("Authorization", "Bearer "+token)
		answer, err := client.Do(asking)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != status {
			t.Errorf("%s: got %d, expected %d", token, answer.StatusCode, status)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
