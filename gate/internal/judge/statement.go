package judge

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"

	"countersign/gate/internal/reference"

	intoto "github.com/in-toto/attestation/go/v1"
)

// statement is what an in-toto statement says that it is about.
type statement struct {
	kind          string
	predicateType string
	named         int      // subjects
	subjects      []string // sha256:<hex>, of those that have one
}

// maxSubjects bounds what a statement is about: GitHub's attestations have up to 1,024.
const maxSubjects = 2048

// readStatement reads a bundle's statement before anything verified it. Nothing is
// allowed by it: an attestation that nobody asks for may be large, and needs no closer
// look.
func readStatement(payload []byte, wanted []string, values int) (statement, error) {
	var form struct {
		Type          string         `json:"_type"`
		PredicateType string         `json:"predicateType"`
		Subject       jsontext.Value `json:"subject"`
	}
	if err := json.Unmarshal(payload, &form, jsontext.AllowDuplicateNames(true)); err != nil {
		return statement{}, fmt.Errorf("its payload is not an in-toto statement: %w", err)
	}
	s := statement{kind: form.Type, predicateType: form.PredicateType}
	if !slices.Contains(wanted, s.predicateType) {
		return s, nil
	}
	if err := scanStatement(payload, s.predicateType, values); err != nil {
		return s, fmt.Errorf("its statement cannot be read: %w", err)
	}
	if s.predicateType != signPredicate {
		// sigstore-go's reading of what it verifies is lax where it leaves the predicate
		// out, so this one counts beside it: what two readers could take for two things
		// is refused.
		if err := json.Unmarshal(payload, &form); err != nil {
			return s, fmt.Errorf("its statement cannot be read: %w", err)
		}
		s.kind = form.Type
	}
	var subjects []struct {
		Digest map[string]string `json:"digest"`
	}
	if err := json.Unmarshal(form.Subject, &subjects); err != nil {
		return s, fmt.Errorf("its subject cannot be read: %w", err)
	}
	for _, subject := range subjects {
		s.add(subject.Digest)
	}
	if s.named > maxSubjects {
		return s, fmt.Errorf("it is for %d subjects, at most %d are read", s.named, maxSubjects)
	}
	return s, nil
}

func (s *statement) add(digests map[string]string) {
	s.named++
	if subject := "sha256:" + digests["sha256"]; reference.CheckDigest(subject) == nil {
		s.subjects = append(s.subjects, subject)
	}
}

// first gives one subject, for a sentence.
func (s statement) first() string {
	if len(s.subjects) == 0 {
		return ""
	}
	return s.subjects[0]
}

func statementOf(content *intoto.Statement) statement {
	s := statement{kind: content.GetType(), predicateType: content.GetPredicateType()}
	for _, subject := range content.GetSubject() {
		s.add(subject.GetDigest())
	}
	return s
}

// about returns nil if the statement is of that predicate type, about that digest.
func (s statement) about(kind, digest string) error {
	if err := s.wellFormed(); err != nil {
		return err
	}
	switch {
	case s.predicateType != kind:
		return fmt.Errorf("predicate type %.200q is not %s", s.predicateType, kind)
	case !slices.Contains(s.subjects, digest):
		return fmt.Errorf("the subject is %.200q, not %s", s.subjects, digest)
	}
	return nil
}

// wellFormed returns nil if the statement has the form of what its predicate type says.
func (s statement) wellFormed() error {
	switch err := s.typed(); {
	case err != nil:
		return err
	case s.predicateType == signPredicate && (s.named != 1 || len(s.subjects) != 1):
		return errors.New("it is not for exactly one subject with a sha256 digest")
	case len(s.subjects) == 0:
		return errors.New("it is for no subject with a sha256 digest")
	}
	return nil
}

func (s statement) typed() error {
	switch {
	case s.predicateType == signPredicate && s.kind != statementType:
		return fmt.Errorf("its statement is of type %.80q, not %s", s.kind, statementType)
	case !slices.Contains(statementTypes, s.kind):
		return fmt.Errorf("its statement is of type %.80q, not %s", s.kind, strings.Join(statementTypes, " or "))
	}
	return nil
}
