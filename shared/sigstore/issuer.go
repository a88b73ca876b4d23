package main

import (
	"encoding/json"
	"net/http"
	"time"
)

// serveIssuer serves two OpenID Connect issuers, /mail and /workflows: the two documents that a verifier of their tokens
// asks for (OpenID Connect Discovery 1.0, 4), which are their configuration, and their keys from the file keys.json.
// Tokens are signed elsewhere, by whoever holds the key.
func serveIssuer(given options) error {
	handler := http.NewServeMux()
	for _, path := range []string{"/mail", "/workflows"} {
		url := "http://" + given.address.String() + path
		configuration, err := json.Marshal(map[string]any{
			"issuer":                                url,
			"jwks_uri":                              url + "/keys",
			"authorization_endpoint":                url + "/tokens-come-from-signing.stack.token",
			"response_types_supported":              []string{"id_token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
		if err != nil {
			return err
		}
		handler.HandleFunc("GET "+path+"/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(configuration)
		})
		handler.HandleFunc("GET "+path+"/keys", func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, given.path("keys.json"))
		})
	}
	return serveHTTP(given, handler)
}

// serveHTTP serves until the process ends.
func serveHTTP(given options, handler http.Handler) error {
	listener, err := listen(given.address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
	}
	return server.Serve(listener)
}
