package main

import (
	"net/http"

	"github.com/go-openapi/runtime"
	"github.com/sigstore/timestamp-authority/v2/pkg/api"
	"github.com/sigstore/timestamp-authority/v2/pkg/generated/restapi/operations/timestamp"
	"github.com/spf13/viper"
)

// policyOID is the policy of Sigstore's timestamps.
const policyOID = "1.3.6.1.4.1.57264.2"

// serveTimestamps serves a timestamp authority (RFC 3161 over HTTP) with the key key.pem and the chain chain.pem.
// (Its own server cannot be in one program with Rekor's: both define the same flags.)
func serveTimestamps(given options) error {
	for name, value := range map[string]any{
		"timestamp-signer":         "file",
		"timestamp-signer-hash":    "sha256",
		"file-signer-key-path":     given.path("key.pem"),
		"certificate-chain-path":   given.path("chain.pem"),
		"enforce-intermediate-eku": true,
		"default-policy-oid":       policyOID,
		"accepted-policy-oids":     []string{policyOID},
	} {
		viper.Set(name, value)
	}
	api.ConfigureAPI()
	handler := http.NewServeMux()
	handler.HandleFunc("POST /api/v1/timestamp", func(w http.ResponseWriter, r *http.Request) {
		body := http.MaxBytesReader(w, r.Body, maxRequest)
		asked := timestamp.GetTimestampResponseParams{HTTPRequest: r, Request: body}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		api.TimestampResponseHandler(asked).WriteResponse(w, runtime.ByteStreamProducer())
	})
	return serveHTTP(given, handler)
}
