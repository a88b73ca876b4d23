package judge

import (
	"encoding/hex"
	"time"

	"countersign/gate/internal/bounded"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
)

// see notes certificate, log entries and timestamps of a bundle, as they say themselves.
func (s *Sighting) see(b *bundle.Bundle) {
	if content, err := b.VerificationContent(); err == nil && content.Certificate() != nil {
		leaf := content.Certificate()
		s.Signer = certifiedAs(leaf)
		if claims, err := certificate.ParseExtensions(leaf.Extensions); err == nil {
			s.Signer.Issuer = bounded.Text(claims.Issuer, maxFinding)
		}
	}
	entries := b.GetVerificationMaterial().GetTlogEntries()
	for _, entry := range entries[:min(len(entries), maxShown)] {
		index := entry.GetLogIndex()
		seen := Time{Source: "log", LogIndex: &index, LogID: hex.EncodeToString(entry.GetLogId().GetKeyId()[:min(len(entry.GetLogId().GetKeyId()), 64)])}
		if at := entry.GetIntegratedTime(); at > 0 {
			seen.at(time.Unix(at, 0))
		}
		s.Times = append(s.Times, seen)
	}
	stamps := b.GetVerificationMaterial().GetTimestampVerificationData().GetRfc3161Timestamps()
	for _, stamp := range stamps[:min(len(stamps), maxShown)] {
		seen := Time{Source: "timestamp"}
		if read, err := timestamp.ParseResponse(stamp.GetSignedTimestamp()); err == nil {
			seen.at(read.Time)
		}
		s.Times = append(s.Times, seen)
	}
}

// at notes a time that JSON can have: years of four digits (RFC 3339).
func (t *Time) at(when time.Time) {
	if year := when.Year(); year >= 0 && year <= 9999 {
		when = when.UTC()
		t.At = &when
	}
}
