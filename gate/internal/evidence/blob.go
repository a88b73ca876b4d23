package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// blobPrefix marks a sigstore signature in the files of containers/image.
const blobPrefix = "\x00sigstore-json\n"

// blobJSON is containers/image's own form of a sigstore signature at rest
// (go.podman.io/image, internal/signature, sigstoreJSONRepresentation).
type blobJSON struct {
	MediaType   string            `json:"mimeType"`
	Payload     []byte            `json:"payload"`
	Annotations map[string]string `json:"annotations"`
}

// blob gives the attachment as a signature-N file of the dir: layout. The same
// attachment always gives the same bytes.
func (a Attachment) blob() []byte {
	text, err := json.Marshal(blobJSON(a))
	if err != nil {
		panic("strings and bytes can always be encoded: " + err.Error())
	}
	return append([]byte(blobPrefix), text...)
}

// parseBlob reads a signature-N file of the dir: layout.
func parseBlob(data []byte) (Attachment, error) {
	text, ok := bytes.CutPrefix(data, []byte(blobPrefix))
	if !ok {
		return Attachment{}, fmt.Errorf("no sigstore signature in the form of containers/image")
	}
	var form blobJSON
	if err := json.Unmarshal(text, &form); err != nil {
		return Attachment{}, fmt.Errorf("not the JSON of a sigstore signature: %w", err)
	}
	return Attachment(form), nil
}
