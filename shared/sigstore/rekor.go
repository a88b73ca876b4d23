package main

import (
	"context"
	"flag"
	"io"
	"net"
	"time"

	"github.com/go-openapi/loads"
	"github.com/google/trillian"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	trillianserver "github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/storage/memory"
	"github.com/google/trillian/util/clock"
	"github.com/google/trillian/util/election"
	"github.com/google/trillian/util/election2"
	"github.com/sigstore/rekor/pkg/api"
	"github.com/sigstore/rekor/pkg/generated/restapi"
	"github.com/sigstore/rekor/pkg/generated/restapi/operations"
	_ "github.com/sigstore/rekor/pkg/types/dsse/v0.0.1" // the kinds of entries that signatures make
	_ "github.com/sigstore/rekor/pkg/types/hashedrekord/v0.0.1"
	_ "github.com/sigstore/rekor/pkg/types/intoto/v0.0.2"
	"github.com/spf13/viper"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
)

// serveRekor serves Rekor v1, which signs with key.pem. Its tree lies in memory: it begins anew with each start,
// while what the log has signed stays good, for the key stays.
func serveRekor(given options) error {
	quietTrillian()
	port, err := serveTrillian()
	if err != nil {
		return err
	}
	for name, value := range map[string]any{
		"trillian_log_server.address": "127.0.0.1",
		"trillian_log_server.port":    port,
		"rekor_server.hostname":       given.address.Addr().String(),
		"rekor_server.signer":         given.path("key.pem"),
		"publish_frequency":           5,
		"max_request_body_size":       32 << 20,
		"enabled_api_endpoints": []string{
			"getLogInfo", "getPublicKey", "getLogProof", "createLogEntry", "getLogEntryByIndex", "getLogEntryByUUID",
		},
	} {
		viper.Set(name, value)
	}
	document, err := loads.Embedded(restapi.SwaggerJSON, restapi.FlatSwaggerJSON)
	if err != nil {
		return err
	}
	server := restapi.NewServer(operations.NewRekorServerAPI(document))
	server.Host, server.Port = given.address.Addr().String(), int(given.address.Port())
	server.EnabledListeners = []string{"http"}
	server.CleanupTimeout = time.Second
	api.ConfigureAPI(0) // 0: makes a tree
	server.ConfigureAPI()
	defer api.StopAPI()
	return server.Serve()
}

// serveTrillian serves, at a free port of loopback, the trees that Rekor v1 keeps its entries in, and returns the port.
func serveTrillian() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	metrics, trees := monitoring.InertMetricFactory{}, memory.NewTreeStorage()
	registry := extension.Registry{
		AdminStorage:    memory.NewAdminStorage(trees),
		LogStorage:      memory.NewLogStorage(trees, metrics),
		ElectionFactory: election2.NoopFactory{},
		QuotaManager:    quota.Noop(),
		MetricFactory:   metrics,
	}
	sequencing := log.NewOperationManager(log.OperationInfo{
		Registry:       registry,
		BatchSize:      100,
		NumWorkers:     1,
		RunInterval:    50 * time.Millisecond,
		TimeSource:     clock.System,
		ElectionConfig: election.RunnerConfig{MasterHoldInterval: time.Hour, TimeSource: clock.System},
	}, log.NewSequencerManager(registry, 0))
	go sequencing.OperationLoop(context.Background())
	server := grpc.NewServer()
	trillian.RegisterTrillianLogServer(server, trillianserver.NewTrillianLogRPCServer(registry, clock.System))
	trillian.RegisterTrillianAdminServer(server, admin.New(registry, []trillian.TreeType{trillian.TreeType_LOG}))
	go server.Serve(listener)
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// quietTrillian leaves out its log's warnings, of which an idle tree gives twenty a second; errors are still written.
func quietTrillian() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	flags.Set("logtostderr", "false")
	flags.Set("stderrthreshold", "ERROR")
	klog.SetOutput(io.Discard)
}
