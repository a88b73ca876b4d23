package audit

import (
	"fmt"
	"io"
	"strings"
)

// Table writes the report for a person: a line for each container, below it what is
// refused and the line of policy that would allow it, then the same for images.
func (r *Report) Table(w io.Writer) error {
	var b strings.Builder
	lines(&b, "running containers", r.Containers)
	lines(&b, "pod sandboxes", r.Sandboxes)
	if r.Images != nil {
		lines(&b, "cached images", r.Images)
	}
	if r.NotJudged > 0 {
		fmt.Fprintf(&b, "NOT JUDGED: %d beyond the first %d\n", r.NotJudged, maxEntries)
	}
	switch {
	case r.Policy == "":
		fmt.Fprintf(&b, "no policy is in force: everything would be refused\n")
	case r.Refused > 0:
		fmt.Fprintf(&b, "%d of %d running containers and sandboxes would be refused under policy %s\n", r.Refused, len(r.Containers)+len(r.Sandboxes), r.Policy)
	default:
		fmt.Fprintf(&b, "nothing that runs would be refused under policy %s\n", r.Policy)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func lines(b *strings.Builder, title string, entries []Entry) {
	fmt.Fprintf(b, "%s: %d\n", title, len(entries))
	width := 0
	for _, e := range entries {
		width = max(width, len(e.where()))
	}
	for _, e := range entries {
		mark := "✓"
		if !e.Allow {
			mark = "✗"
		}
		fmt.Fprintf(b, "%s %-20s %-*s  %s\n", mark, e.Code, width, e.where(), e.what())
		if e.Allow {
			continue
		}
		fmt.Fprintf(b, "    %s\n", e.Message)
		if e.Remedy != "" {
			fmt.Fprintf(b, "    would be allowed by: %s\n", e.Remedy)
		}
		if e.Stop != "" {
			fmt.Fprintf(b, "    %s\n", e.Stop)
		}
	}
}

// where names a container by its pod, and by the beginning of its ID.
func (e Entry) where() string {
	if e.Container == "" {
		return ""
	}
	if e.Name == "" {
		return fmt.Sprintf("%s/%s %.13s", e.Namespace, e.Pod, e.Container)
	}
	return fmt.Sprintf("%s/%s/%s %.13s", e.Namespace, e.Pod, e.Name, e.Container)
}

func (e Entry) what() string {
	if e.Digest == "" || strings.HasSuffix(e.Image, e.Digest) {
		return e.Image
	}
	return e.Image + " " + e.Digest
}
