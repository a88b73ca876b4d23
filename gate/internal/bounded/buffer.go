package bounded

import (
	"bytes"
	"errors"
)

// Buffer takes no more than Left bytes, and then fails what writes to it. It does not
// embed its buffer, whose ReadFrom would go around the bound.
type Buffer struct {
	Kept bytes.Buffer
	Left int
	Over bool // more was written
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	if len(p) > b.Left {
		b.Over = true
		return 0, errors.New("the answer is over its bound")
	}
	b.Left -= len(p)
	return b.Kept.Write(p)
}
