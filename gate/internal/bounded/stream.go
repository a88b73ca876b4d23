package bounded

import (
	"bytes"
	"encoding/json"
	"encoding/json/jsontext"
	jsonv2 "encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrLong says that one piece of a stream is over the bound for a piece.
var ErrLong = errors.New("one item of it is too long")

// ErrDeep says that a stream is nested deeper than anything that is listed. The decoder calls
// itself for each level: ten thousand of them take megabytes of stack.
var ErrDeep = errors.New("it is nested too deep")

const maxNesting = 64 // levels

// decoders are kept for their buffers: a stream of nothing but blanks has one of its own
// grow up to the bound.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// Items gives each item of the array that is the given member of the JSON object
// in r, and skips all other members. An item may have limit bytes, and so may all
// that is skipped together: more is ErrLong, and no more is ever in memory. It ends early, without an error, where each returns false.
func Items[T any](r io.Reader, member string, limit int, each func(T) bool) error {
	decoder := decoders.Get().(*jsontext.Decoder)
	defer func() {
		decoder.Reset(bytes.NewReader(nil)) // keeps the buffer, and not what it read from
		decoders.Put(decoder)
	}()
	s := &stream{pieces: &pieces{r: r}, limit: limit, decoder: decoder}
	decoder.Reset(s.pieces, json.DefaultOptionsV1())
	kind, err := s.token()
	if err != nil {
		return err
	}
	if kind != '{' {
		return errors.New("it is not a JSON object")
	}
	for s.more() {
		key, err := s.text()
		if err != nil {
			return err
		}
		if key != member {
			start := s.decoder.InputOffset()
			err = s.skip(start + int64(limit-s.skipped))
			s.skipped += int(s.decoder.InputOffset() - start)
		} else if more, itemsErr := items(s, each); itemsErr != nil || !more {
			return itemsErr
		}
		if err != nil {
			return err
		}
	}
	_, err = s.token()
	return err
}

func items[T any](s *stream, each func(T) bool) (more bool, err error) {
	kind, err := s.token()
	if err != nil || kind == 'n' { // null is none
		return true, err
	}
	if kind != '[' {
		return false, fmt.Errorf("%v is not a list", kind)
	}
	for s.more() {
		var item T
		s.pieces.left = s.limit
		if err := jsonv2.UnmarshalDecode(s.decoder, &item); err != nil {
			return false, err
		}
		if !each(item) {
			return false, nil
		}
	}
	_, err = s.token()
	return true, err
}

// Strings reads a JSON object of at most limit strings. Null or nothing is none.
func Strings(raw []byte, limit int) (map[string]string, error) {
	if !Present(raw) {
		return nil, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('{') {
		return nil, fmt.Errorf("%.20q is not an object of strings", raw)
	}
	found := map[string]string{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value string
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		if found[key.(string)] = value; len(found) > limit {
			return nil, fmt.Errorf("it has more than %d members", limit)
		}
	}
	return found, nil
}

// stream is a decoder that is given a limited number of bytes for each step.
type stream struct {
	decoder *jsontext.Decoder
	pieces  *pieces
	limit   int
	skipped int // bytes
}

// more says whether the array or object that is being read has more, or is broken.
func (s *stream) more() bool {
	s.pieces.left = s.limit
	kind := s.decoder.PeekKind()
	return kind != ']' && kind != '}'
}

func (s *stream) token() (jsontext.Kind, error) {
	s.pieces.left = s.limit
	token, err := s.decoder.ReadToken()
	if err != nil {
		return 0, err
	}
	return token.Kind(), nil
}

func (s *stream) text() (string, error) {
	s.pieces.left = s.limit
	token, err := s.decoder.ReadToken()
	if err != nil {
		return "", err
	}
	return token.String(), nil
}

// skip reads over one value, which is to end before end.
func (s *stream) skip(end int64) error {
	for depth := 0; ; {
		kind, err := s.token()
		if err != nil {
			return err
		}
		if s.decoder.InputOffset() > end {
			return ErrLong
		}
		switch kind {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// pieces fails where more is read than is left, or deeper.
type pieces struct {
	r    io.Reader
	left int
	nesting
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left <= 0 {
		return 0, ErrLong
	}
	if p.depth > maxNesting {
		return 0, ErrDeep
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	if good := p.follow(b[:n]); good < n {
		return good, ErrDeep
	}
	return n, err
}

// Deep says whether a document is nested deeper than any manifest, list or configuration.
func Deep(document []byte) bool {
	var n nesting
	return n.follow(document) < len(document)
}

// nesting follows how deep JSON is. What is not JSON may be followed wrongly, and a decoder
// stops there.
type nesting struct {
	depth            int
	inText, isEscape bool
}

// follow gives how many bytes come before one that goes too deep.
func (n *nesting) follow(b []byte) int {
	for i, c := range b {
		switch {
		case n.isEscape:
			n.isEscape = false
		case n.inText:
			n.isEscape, n.inText = c == '\\', c != '"'
		case c == '"':
			n.inText = true
		case c == '{' || c == '[':
			if n.depth++; n.depth > maxNesting {
				return i
			}
		case c == '}' || c == ']':
			n.depth--
		}
	}
	return len(b)
}
