package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"countersign/gate/internal/verdict"
)

// logged gives the images of all verdicts in the log's files, and the files' sizes.
func logged(t *testing.T, path string) (images []string, sizes map[string]int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	sizes = map[string]int{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sizes[strings.TrimPrefix(file, path)] = len(content)
		for line := range bytes.Lines(content) {
			var v verdict.Verdict
			if err := json.Unmarshal(line, &v); err != nil {
				t.Errorf("%s: %v: %.80q", file, err, line)
			}
			images = append(images, v.Image)
		}
	}
	return images, sizes
}

func TestARotatedLogLosesNothingAndStaysBounded(t *testing.T) {
	const limit, writers, each = 20_000, 4, 100
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	var logs []*Log // two gates, as in a hand-over
	for range 2 {
		log, err := OpenLog(path, limit, 50)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, log)
	}
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if err := logs[w%2].Write(&verdict.Verdict{Image: fmt.Sprint(w, "-", i), Message: strings.Repeat("x", 500)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	images, sizes := logged(t, path)
	slices.Sort(images)
	if len(images) != writers*each || len(slices.Compact(images)) != writers*each {
		t.Errorf("%d verdicts of %d", len(images), writers*each)
	}
	for file, size := range sizes {
		if size > 2*limit { // two gates count on their own
			t.Errorf("%q has %d bytes", file, size)
		}
	}
	if len(sizes) < 5 {
		t.Errorf("files: %v", sizes)
	}
}

func TestOnlySoManyLogsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	log, err := OpenLog(path, 1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		_ = log.Write(&verdict.Verdict{Image: fmt.Sprint(i), Message: strings.Repeat("x", 600)})
	}
	images, sizes := logged(t, path)
	slices.Sort(images)
	if len(sizes) != 3 || !slices.Equal(images, []string{"17", "18", "19"}) {
		t.Errorf("%v in %v", images, sizes)
	}
}

func TestALogThatCannotBeMovedGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	log, err := OpenLog(path, 1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(path+".1/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := log.Write(&verdict.Verdict{Image: fmt.Sprint(i), Message: strings.Repeat("x", 600)}); err != nil {
			t.Error(err)
		}
	}
	if err := os.RemoveAll(path + ".1"); err != nil {
		t.Fatal(err)
	}
	if images, _ := logged(t, path); len(images) != 4 {
		t.Errorf("got %v", images)
	}
}

// A full disk may take a part of a line.
func TestAVerdictAfterAFullDiskIsALineOfItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	log, err := OpenLog(path, 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	log.broken = true
	if _, err := log.file.WriteString(`{"cut`); err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"a", "b"} {
		if err := log.Write(&verdict.Verdict{Image: image}); err != nil {
			t.Error(err)
		}
	}
	content, err := os.ReadFile(path)
	if lines := bytes.Split(content, []byte("\n")); err != nil || len(lines) != 4 || !json.Valid(lines[1]) || !json.Valid(lines[2]) {
		t.Errorf("%q, %v", content, err)
	}
}

func TestAVerdictThatIsInNoLogIsCounted(t *testing.T) {
	log, err := OpenLog(filepath.Join(t.TempDir(), "verdicts.jsonl"), 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	metrics := NewMetrics("1.2.3", func() (int64, int) { return 0, 0 })
	observer := Observer{Log: log, Metrics: metrics}
	observer.Verdict(allow())
	log.file = full
	if err := log.Write(allow()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	observer.Verdict(allow())
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(answer.Body.String(), "countersign_verdicts_not_logged_total 1\n") {
		t.Error("not counted")
	}
}
