package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	ctclient "github.com/google/certificate-transparency-go/client"
	"github.com/google/certificate-transparency-go/jsonclient"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/sigstore/fulcio/pkg/ca/fileca"
	"github.com/sigstore/fulcio/pkg/config"
	gw "github.com/sigstore/fulcio/pkg/generated/protobuf"
	legacy "github.com/sigstore/fulcio/pkg/generated/protobuf/legacy"
	"github.com/sigstore/fulcio/pkg/server"
	v1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// algorithms are those of keys that certificates are given for.
var algorithms = []v1.PublicKeyDetails{
	v1.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
	v1.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384,
	v1.PublicKeyDetails_PKIX_ECDSA_P521_SHA_512,
	v1.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256,
	v1.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256,
	v1.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256,
	v1.PublicKeyDetails_PKIX_ED25519,
}

// maxRequest bounds a request, in bytes.
const maxRequest = 1 << 20

// serveFulcio serves Fulcio's HTTP interfaces, v1 and v2. Its files: chain.pem (the issuing certificate first) and
// key.pem, config.yaml (whose tokens count), ct.pem (the public key of the log of certificates).
func serveFulcio(given options) error {
	settings, err := config.Load(given.path("config.yaml"))
	if err != nil {
		return err
	}
	authority, err := fileca.NewFileCA(given.path("chain.pem"), given.path("key.pem"), "", false)
	if err != nil {
		return err
	}
	defer authority.Close()
	key, err := os.ReadFile(given.path("ct.pem"))
	if err != nil {
		return err
	}
	log, err := ctclient.New(given.ctLog, &http.Client{Timeout: 10 * time.Second}, jsonclient.Options{PublicKey: string(key)})
	if err != nil {
		return fmt.Errorf("--ct-log: %w", err)
	}
	accepted, err := signature.NewAlgorithmRegistryConfig(algorithms)
	if err != nil {
		return err
	}
	certificates := server.NewGRPCCAServer(log, authority, accepted, server.NewIssuerPool(settings))
	handler, err := overHTTP(given.path("fulcio.sock"), settings, certificates)
	if err != nil {
		return err
	}
	return serveHTTP(given, http.MaxBytesHandler(handler, maxRequest))
}

// overHTTP serves Fulcio's gRPC interfaces at a socket of its folder, and returns what answers HTTP by asking there.
func overHTTP(socket string, settings *config.FulcioConfig, certificates gw.CAServer) (http.Handler, error) {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	inner := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			return handle(config.With(ctx, settings), request)
		}))
	gw.RegisterCAServer(inner, certificates)
	legacy.RegisterCAServer(inner, server.NewLegacyGRPCCAServer(certificates))
	go inner.Serve(listener)
	mux := runtime.NewServeMux(runtime.WithMetadata(token), runtime.WithForwardResponseOption(plainHeaders))
	dial := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if err := gw.RegisterCAHandlerFromEndpoint(context.Background(), mux, "unix:"+socket, dial); err != nil {
		return nil, err
	}
	return mux, legacy.RegisterCAHandlerFromEndpoint(context.Background(), mux, "unix:"+socket, dial)
}

// token hands the bearer token of a request on to Fulcio.
func token(_ context.Context, request *http.Request) metadata.MD {
	bearer := strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ")
	return metadata.Pairs(server.MetadataOIDCTokenKey, bearer)
}

// plainHeaders says the status and the SCT, which Fulcio gives as gRPC metadata, in HTTP's own way.
func plainHeaders(ctx context.Context, w http.ResponseWriter, _ proto.Message) error {
	found, ok := runtime.ServerMetadataFromContext(ctx)
	if !ok {
		return nil
	}
	for name := range w.Header() {
		if strings.HasPrefix(name, "Grpc-") {
			w.Header().Del(name)
		}
	}
	if sct := found.HeaderMD.Get(server.SCTMetadataKey); len(sct) > 0 {
		w.Header().Set("SCT", sct[0])
	}
	if status := found.HeaderMD.Get(server.HTTPResponseCodeMetadataKey); len(status) > 0 {
		code, err := strconv.Atoi(status[0])
		if err != nil {
			return err
		}
		w.WriteHeader(code)
	}
	return nil
}
