// Package bounded keeps small what comes from outside: a few bytes of JSON can
// stand for a hundred times as many in memory, and a name for a whole log.
package bounded

import (
	"bytes"
	"encoding/json"
	"fmt"

	"countersign/gate/internal/clean"
)

// List reads a JSON array of at most limit items; null or nothing is none. Of a
// longer one it gives the first, and more is true.
func List[T any](raw []byte, limit int) (items []T, more bool, err error) {
	if !Present(raw) {
		return nil, false, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	token, err := decoder.Token()
	if err != nil {
		return nil, false, err
	}
	if token != json.Delim('[') {
		return nil, false, fmt.Errorf("%.20q is not a list", raw)
	}
	for decoder.More() {
		if len(items) == limit {
			return items, true, nil
		}
		var item T
		if err := decoder.Decode(&item); err != nil {
			return nil, false, err
		}
		items = append(items, item)
	}
	return items, false, nil
}

// Present says whether a member was there, and was not null.
func Present(raw []byte) bool { return len(raw) > 0 && string(raw) != "null" }

// Text makes s one line that is safe to show, cuts it after limit bytes, and says so.
func Text(s string, limit int) string { return clean.Line(s, limit) }
