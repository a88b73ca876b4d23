package condition

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// What a document holds at most, beside its bytes.
const (
	maxLevels = 64
	maxKey    = 4096 // bytes
)

// Decode reads a JSON document as conditions see it: whole numbers are integers, as in
// Kubernetes, and all others are doubles. A name that stands twice in an object, or more
// than limit values, is an error.
func Decode(document []byte, limit int) (any, error) {
	d := &decoder{Decoder: jsontext.NewDecoder(bytes.NewBuffer(document)), left: limit, names: map[string]string{}}
	value, err := d.value()
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the document")
	}
	return value, nil
}

type decoder struct {
	*jsontext.Decoder
	left  int
	names map[string]string // of members, of which a list of objects repeats a few
}

const maxNames = 1024

// name gives the same text for equal names.
func (d *decoder) name(token jsontext.Token) string {
	text := token.String()
	if known, ok := d.names[text]; ok {
		return known
	}
	if len(d.names) < maxNames {
		d.names[text] = text
	}
	return text
}

func (d *decoder) value() (any, error) {
	if d.left--; d.left < 0 {
		return nil, errors.New("it has too many values")
	}
	if d.StackDepth() > maxLevels {
		return nil, fmt.Errorf("it is nested more than %d levels deep", maxLevels)
	}
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		return d.object()
	case '[':
		return d.list()
	case '"':
		return token.String(), nil
	case '0':
		return number(token.String())
	case 't', 'f':
		return token.Bool(), nil
	}
	return nil, nil // null
}

func (d *decoder) object() (any, error) {
	found := map[string]any{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := d.name(name)
		if len(key) > maxKey {
			return nil, fmt.Errorf("a name of %d bytes", len(key))
		}
		if found[key], err = d.value(); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return found, err
}

func (d *decoder) list() (any, error) {
	found := []any{}
	for d.PeekKind() != ']' {
		item, err := d.value()
		if err != nil {
			return nil, err
		}
		found = append(found, item)
	}
	_, err := d.ReadToken()
	return found, err
}

func number(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
			return whole, nil
		}
	}
	return strconv.ParseFloat(text, 64)
}
