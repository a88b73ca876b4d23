package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"

	"countersign/gate/internal/code"
)

// response is a whole answer of status 200.
type response struct {
	body   []byte // unless it was consumed
	digest string // of what was read of the body
	header http.Header
}

// read takes an answer whole, within its bounds; false where there is no such thing.
func read(ctx context.Context, resp *http.Response, host string, q query) (response, bool, error) {
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound:
		return response{}, false, nil
	case status == http.StatusForbidden:
		return response{}, false, unauthorised(host, resp.Status)
	case status != http.StatusOK:
		for _, missing := range q.missing {
			if status == missing {
				return response{}, false, nil
			}
		}
		return response{}, false, code.Refuse(code.RegistryError, host+" answered "+resp.Status,
			"200 or 404", "look into the registry's log")
	}
	if q.media != "" && mediaType(resp.Header) != q.media {
		return response{}, false, nil
	}
	if resp.ContentLength > q.limit {
		return response{}, false, tooLarge(host, q)
	}
	r := response{header: resp.Header}
	hash := sha256.New()
	body := io.TeeReader(&boundedBody{ReadCloser: resp.Body, left: q.limit}, hash)
	var err error
	if q.consume != nil {
		err = q.consume(body)
	} else {
		r.body, err = readWhole(ctx, body, min(q.limit, max(resp.ContentLength, 0)))
	}
	switch {
	case errors.Is(err, errOverBound):
		return response{}, false, tooLarge(host, q)
	case err != nil:
		return response{}, false, classify(host, err)
	}
	r.digest = "sha256:" + hex.EncodeToString(hash.Sum(nil))
	return r, true, nil
}

func mediaType(header http.Header) string {
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(media)) // RFC 9110, 8.3.1
}
