// Command network gives the pods of a Kind node their addresses and the node its routes to the other nodes' pods.
//
// It is what kindnetd is in kindest/node, cut down to one address family and no network policies, for node
// images that are built where kindest/node can't be pulled. It runs as a DaemonSet on the host's network and
// repeats: list the nodes, write the CNI configuration of this one, set a route to each of the others.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	interval   = 5 * time.Second
	configFile = "10-countersign.conflist"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	self, pods, folder := os.Getenv("NODE_NAME"), os.Getenv("POD_SUBNET"), os.Getenv("CNI_FOLDER")
	api, err := inCluster()
	if err != nil {
		log.Fatalf("network: %v", err)
	}
	for {
		if err := bring(ctx, api, self, pods, folder); err != nil {
			log.Printf("network: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// bring makes configuration and routes what the API server says that they are.
func bring(ctx context.Context, api *apiServer, self, pods, folder string) error {
	nodes, err := api.nodes(ctx)
	if err != nil {
		return err
	}
	own, routes, err := plan(nodes, self)
	if err != nil {
		return err
	}
	if own != "" {
		content, err := cniConfig(own, pods)
		if err != nil {
			return err
		}
		if err := writeIfChanged(folder, configFile, content); err != nil {
			return err
		}
	}
	return setRoutes(routes)
}
