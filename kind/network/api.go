package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

const (
	account     = "/var/run/secrets/kubernetes.io/serviceaccount/"
	answerLimit = 8 << 20
)

// An apiServer is reached as a pod reaches it.
type apiServer struct {
	url    string
	client *http.Client
}

// inCluster returns the API server of the pod we are in, at the address that CONTROL_PLANE_ENDPOINT names, if any: a
// service address leads nowhere before kube-proxy runs.
func inCluster() (*apiServer, error) {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New(account + "ca.crt has no certificate")
	}
	address := os.Getenv("CONTROL_PLANE_ENDPOINT")
	if address == "" {
		address = net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	return &apiServer{"https://" + address, &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

// nodes lists the cluster's nodes.
func (s *apiServer) nodes(ctx context.Context) ([]node, error) {
	token, err := os.ReadFile(account + "token") // it is replaced from time to time
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/nodes", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API server answers %s", response.Status)
	}
	return parseNodes(body)
}

// parseNodes reads a NodeList of the Kubernetes API (core/v1).
func parseNodes(body []byte) ([]node, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ PodCIDR string }
			Status   struct {
				Addresses []struct{ Type, Address string }
			}
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the list of nodes: %w", err)
	}
	var nodes []node
	for _, item := range list.Items {
		found := node{Name: item.Metadata.Name}
		for _, each := range item.Status.Addresses {
			if address, err := netip.ParseAddr(each.Address); err == nil && each.Type == "InternalIP" && address.Is4() {
				found.Address = address
			}
		}
		if prefix, err := netip.ParsePrefix(item.Spec.PodCIDR); err == nil && prefix.Addr().Is4() {
			found.Pods = prefix
		}
		nodes = append(nodes, found)
	}
	return nodes, nil
}
