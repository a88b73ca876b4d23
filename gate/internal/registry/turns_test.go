package registry_test

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign/gate/internal/code"
	"countersign/gate/internal/registry"
)

// A registry that begins lists and does not end them, for as many look-ups as there may be,
// and twice over, keeps no list of an honest one from being read.
func TestListsThatDoNotEndKeepNoOtherWaiting(t *testing.T) {
	honest := newWorld(t, true, nil)
	honest.push(t, false)
	ended := make(chan struct{})
	begun := make(chan bool, 4*runtime.NumCPU())
	hostile := newWorld(t, true, func(good http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/referrers/") {
				good.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			_, _ = io.WriteString(w, `{"manifests":[`)
			_ = http.NewResponseController(w).Flush()
			begun <- true
			<-ended
		})
	})
	hostile.config.Timeout = 4 * time.Second
	client := registry.New(hostile.config)
	var wait sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		wait.Go(func() {
			set, _ := client.Fetch(t.Context(), hostile.repository, hostile.digest, nil)
			problem(t, set, code.Malformed, "referrers")
		})
	}
	for range 2 * runtime.NumCPU() {
		<-begun
	}
	honest.config.Timeout = 2 * time.Second
	set, err := honest.fetch(t)
	complete(t, set, err)
	close(ended)
	wait.Wait()
}
