package bind

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"countersign/gate/internal/lru"
)

// What is remembered of documents is bounded in bytes, whatever they are full of.
func TestRememberedDocumentsAreBoundedInBytes(t *testing.T) {
	dgst := digest.FromString("child")
	for name, child := range map[string]string{
		"a long media type":    fmt.Sprintf(`{"mediaType": "manifest%s", "digest": %q}`, strings.Repeat("x", 64<<10), dgst),
		"a long platform":      fmt.Sprintf(`{"mediaType": "manifest", "digest": %q, "platform": {"os": %q}}`, dgst, strings.Repeat("x", 64<<10)),
		"features of a system": fmt.Sprintf(`{"mediaType": "manifest", "digest": %q, "platform": {"os.features": ["a"%s]}}`, dgst, strings.Repeat(`,"a"`, 4096)),
		"many children":        strings.TrimSuffix(strings.Repeat(fmt.Sprintf(`{"mediaType": "manifest", "digest": %q, "platform": {"os": "linux"}},`, dgst), 512), ","),
	} {
		t.Run(name, func(t *testing.T) {
			documents := lru.NewSized[string](maxRemembered, maxDocuments, (*Document).Size)
			content := []byte(`{"manifests": [` + child + `]}`)
			before := inUse()
			for i := range 512 {
				d, err := ParseDocument(dgst.String(), content)
				if err != nil {
					t.Fatal(err)
				}
				documents.Put(fmt.Sprint(i), d)
			}
			if held := inUse() - before; documents.Len() == 0 || held > 3*maxDocuments {
				t.Errorf("%d documents hold %d bytes", documents.Len(), held)
			}
			runtime.KeepAlive(documents)
		})
	}
}

func inUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
