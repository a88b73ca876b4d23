package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Where a pod finds its API server (kubernetes.io, "Accessing the Kubernetes API from a
// Pod").
const (
	account = "/var/run/secrets/kubernetes.io/serviceaccount"

	maxObject = 4 << 20
	asking    = 10 * time.Second
)

// API is an API server, asked with the pod's own token. It knows a handful of calls, and
// so needs no client library on every node.
type API struct {
	URL   string
	Token func() (string, error) // read anew for each call: kubelets renew it
	HTTP  *http.Client

	ahead atomic.Int64 // nanoseconds, of this node's clock
}

// Ahead says by how much this node's clock is ahead of the API server's, by its last
// answer (RFC 9110, "Date"; to the second); negative where it is behind.
func (a *API) Ahead() time.Duration { return time.Duration(a.ahead.Load()) }

// InCluster gives the API server of this pod.
func InCluster() (*API, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("KUBERNETES_SERVICE_HOST and _PORT are not set: this is not a pod")
	}
	ca, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s/ca.crt has no certificate", account)
	}
	return &API{
		URL:   "https://" + net.JoinHostPort(host, port),
		Token: func() (string, error) { return readToken(filepath.Join(account, "token")) },
		HTTP:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}},
	}, nil
}

func readToken(path string) (string, error) {
	content, err := os.ReadFile(path)
	return strings.TrimSpace(string(content)), err
}

// statusError is an answer of the API server that is not the one asked for.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.message) }

// is says whether an error is an answer with that HTTP status.
func is(err error, code int) bool {
	var answered *statusError
	return errors.As(err, &answered) && answered.code == code
}

// answered says whether the API server said anything: done, or why it will not be.
func answered(err error) bool {
	var status *statusError
	return err == nil || errors.As(err, &status) && status.code < http.StatusInternalServerError && status.code != http.StatusTooManyRequests
}

// get reads an object.
func (a *API) get(ctx context.Context, path string, into any) error {
	return a.do(ctx, http.MethodGet, path, "", nil, into)
}

// Media types of patches (kubernetes.io, "API Concepts").
const (
	mergePatch = "application/merge-patch+json"
	applyPatch = "application/apply-patch+yaml" // JSON is YAML
)

// apply has the server hold that an object has these fields, and that they are ours.
func (a *API) apply(ctx context.Context, path string, object any) error {
	return a.do(ctx, http.MethodPatch, path+"?fieldManager=countersign-agent&force=true", applyPatch, object, nil)
}

func (a *API) do(ctx context.Context, method, path, media string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	answer, err := a.open(ctx, method, path, media, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	content, err := io.ReadAll(io.LimitReader(answer, maxObject+1))
	if err == nil && len(content) > maxObject {
		err = fmt.Errorf("over %d bytes", maxObject)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// open gives the body of a good answer.
func (a *API) open(ctx context.Context, method, path, media string, body any) (io.ReadCloser, error) {
	var sent io.Reader
	if body != nil {
		content, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.URL+path, sent)
	if err != nil {
		return nil, err
	}
	token, err := a.Token()
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	answer, err := a.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		a.ahead.Store(int64(time.Since(date)))
	}
	if answer.StatusCode/100 == 2 {
		return answer.Body, nil
	}
	defer func() { _ = answer.Body.Close() }()
	var status struct {
		Message string `json:"message"`
	}
	if json.NewDecoder(io.LimitReader(answer.Body, maxObject)).Decode(&status) != nil || status.Message == "" {
		status.Message = answer.Status
	}
	return nil, fmt.Errorf("%s %s: %w", method, path, &statusError{answer.StatusCode, status.Message})
}

// configMap is one that a policy comes in.
type configMap struct {
	Data map[string]string `json:"data"`
}

// watch tells of one object of a list as it is and whenever it changes, until the context
// ends or the connection does.
func watch[T any](ctx context.Context, a *API, list, name string, tell func(T)) error {
	return watchAll(ctx, a, list+"?"+url.Values{"fieldSelector": {"metadata.name=" + name}}.Encode(), func(e watched[T]) {
		if e.Type != deleted {
			tell(e.Object)
		}
	})
}

const deleted = "DELETED"

// watched is what a watch tells: an object that is there, or was.
type watched[T any] struct {
	Type   string
	Object T
}

// watchAll tells of every object of a list, and of those that go.
func watchAll[T any](ctx context.Context, a *API, list string, tell func(watched[T])) error {
	mark := "?"
	if strings.Contains(list, "?") {
		mark = "&"
	}
	answer, err := a.open(ctx, http.MethodGet, list+mark+"watch=true", "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	for events := json.NewDecoder(answer); ; {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&event); err != nil {
			return err
		}
		switch event.Type {
		case "ADDED", "MODIFIED", deleted:
			told := watched[T]{Type: event.Type}
			if err := json.Unmarshal(event.Object, &told.Object); err != nil {
				return err
			}
			tell(told)
		case "ERROR":
			return errors.New("the API server ended the watch")
		}
	}
}
