package judge

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
)

// What a document of one signature holds at most. A keyless bundle with an inclusion
// proof and timestamps has some two hundred tokens; a few bytes of JSON can stand for
// a hundred times as many once they are decoded.
const (
	maxTokens = 4096
	maxDepth  = 24
)

// scan walks over a JSON document without keeping any of it, and returns an error
// where it is no JSON, or over a bound. A decoder that builds values comes after it.
func scan(document []byte) error {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(document), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for tokens := 0; ; tokens++ {
		if tokens > maxTokens {
			return fmt.Errorf("it has more than %d values", maxTokens)
		}
		_, err := decoder.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case decoder.StackDepth() > maxDepth:
			return fmt.Errorf("it is nested more than %d levels deep", maxDepth)
		}
	}
}
