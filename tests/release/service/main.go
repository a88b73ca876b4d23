// Says hello to whoever asks: the second project of these tests.
package main

import (
	"fmt"
	"net/http"
	"os"
)

var release = "unknown"

func main() {
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprintln(answer, "service", release) })
	if err := http.ListenAndServe(":8080", nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
