// Package externaldata answers Gatekeeper, as one of its external data providers: may
// these images run? Whoever asks shows a certificate, what is asked is bounded, and
// whatever is not understood or does not end in time is an answer that allows nothing.
package externaldata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"countersign/gate/internal/bounded"
	"countersign/gate/internal/code"
)

// What Gatekeeper's protocol calls itself.
const (
	apiVersion   = "externaldata.gatekeeper.sh/v1beta1"
	kindRequest  = "ProviderRequest"
	kindResponse = "ProviderResponse"
)

// Bounds of a request.
const (
	maxBody = 256 << 10 // bytes
	maxKeys = 128       // images of one pod
)

// request is a ProviderRequest.
type request struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    struct {
		Keys json.RawMessage `json:"keys"`
	} `json:"request"`
}

// response is a ProviderResponse.
type response struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Response   answer `json:"response"`
}

// answer has one item for each key, or says why there is none. It has no member
// "idempotent", which Gatekeeper takes for false: an answer holds for the moment, and no
// mutation may be made of it.
type answer struct {
	Items       []item `json:"items,omitempty"`
	SystemError string `json:"systemError,omitempty"`
}

// item is the answer on one image: a value where it may run, else an error.
type item struct {
	Key   string `json:"key"`
	Value *Value `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

// Value is what stands for an image that may run. Whoever reads it asks for Allow to be
// true: an item without value or error is not a permission.
type Value struct {
	Allow  bool      `json:"allow"`
	Code   code.Code `json:"code"`
	Digest string    `json:"digest,omitempty"` // that was judged
	Policy string    `json:"policy"`           // sha256 of the policy
}

// readKeys gives the images that a ProviderRequest asks about, each once.
func readKeys(body []byte) ([]string, error) {
	malformed := func(found string) error {
		return code.Refuse(code.Malformed, found, "a "+kindRequest+" of "+apiVersion, "ask as Gatekeeper does")
	}
	var r request
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&r); err != nil {
		return nil, malformed("the request is not to be read: " + bounded.Text(err.Error(), maxReason))
	}
	if decoder.More() {
		return nil, malformed("the request goes on after its end")
	}
	if r.APIVersion != apiVersion || r.Kind != kindRequest {
		return nil, malformed(fmt.Sprintf("a %.64q of %.64q", r.Kind, r.APIVersion))
	}
	keys, more, err := bounded.List[string](r.Request.Keys, maxKeys)
	switch {
	case err != nil:
		return nil, malformed("its keys are not to be read: " + bounded.Text(err.Error(), maxReason))
	case more:
		return nil, malformed(fmt.Sprintf("more than %d images", maxKeys))
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// maxReason bounds what is repeated of an error.
const maxReason = 256

// unanswered is a response that allows nothing.
func unanswered(err error) response {
	return response{apiVersion, kindResponse, answer{SystemError: "countersign: refused: " + err.Error()}}
}
