package registry

import (
	"context"
	"fmt"

	"countersign/gate/internal/evidence"
)

// notationType is the artifact type of a Notary Project signature. Its manifest may be of
// OCI 1.0 and say so in the type of its config alone (signature-specification.md, "Storage").
const notationType = "application/vnd.cncf.notary.signature"

// notationContent gives the one envelope that a signature's manifest has.
func notationContent(d descriptor, layers []descriptor) (content, error) {
	if len(layers) != 1 || evidence.EnvelopeTypes[layers[0].MediaType] == "" {
		return content{}, malformed(fmt.Sprintf("referrer %s has %d layers", d.Digest, len(layers)), "one, of type application/jose+json or application/cose")
	}
	if layers[0].Size > evidence.MaxEnvelope {
		return content{}, malformed(fmt.Sprintf("referrer %s has an envelope of %d bytes", d.Digest, layers[0].Size), fmt.Sprintf("at most %d", evidence.MaxEnvelope))
	}
	return content{envelopes: layers}, nil
}

// keepEnvelopes reads the envelopes of signatures, as far as there is room.
func (f *fetch) keepEnvelopes(ctx context.Context, layers []descriptor, r *room) {
	read := each(f, f.fit("envelopes", layers, r), func(layer descriptor) (evidence.Envelope, error) {
		raw, err := f.layer(ctx, layer, nil)
		return evidence.Envelope{MediaType: layer.MediaType, Raw: raw}, err
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.envelopes = append(f.envelopes, read...)
}
