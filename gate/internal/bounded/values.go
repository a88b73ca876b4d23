package bounded

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
)

// Values walks over a JSON document without keeping any of it, and returns an error
// where it is not JSON, or over a bound: a few bytes of JSON can stand for a hundred times
// as many once they are decoded. A decoder that builds values comes after it.
func Values(document []byte, values, depth int) error {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(document), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for tokens := 0; ; tokens++ {
		if tokens > values {
			return fmt.Errorf("it has more than %d values", values)
		}
		_, err := decoder.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case decoder.StackDepth() > depth:
			return fmt.Errorf("it is nested more than %d levels deep", depth)
		}
	}
}
