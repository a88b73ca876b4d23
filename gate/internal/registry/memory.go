package registry

import (
	"bytes"
	"context"
	"io"

	"golang.org/x/sync/semaphore"

	"countersign/gate/internal/turns"
)

const (
	smallAnswer = 64 << 10 // bytes; what is not larger never waits
	maxReading  = 8 << 20  // bytes of larger answers that are read at a time, by all look-ups together
)

// reading is what larger answers share, so that many at once do not fill a node's
// memory. None waits for more while it holds some.
var reading = semaphore.NewWeighted(maxReading)

// readWhole reads all of body, which fails where it goes over its bound. A length
// of 0 means that it is not known.
func readWhole(ctx context.Context, body io.Reader, length int64) ([]byte, error) {
	var whole bytes.Buffer
	if _, err := io.CopyN(&whole, body, smallAnswer); err != nil {
		if err == io.EOF { //nolint:errorlint // CopyN gives it bare
			err = nil
		}
		return whole.Bytes(), err
	}
	if length == 0 {
		length = maxManifest
	}
	if err := reading.Acquire(ctx, length); err != nil {
		return nil, &turns.Late{Err: err}
	}
	defer reading.Release(length)
	whole.Grow(int(length) + bytes.MinRead) // once: each growth would leave a copy behind
	_, err := whole.ReadFrom(body)
	return whole.Bytes(), err
}
