package judge

import (
	_ "github.com/google/go-containerregistry/pkg/registry"
	_ "github.com/sigstore/sigstore-go/pkg/bundle"
	_ "github.com/sigstore/sigstore-go/pkg/verify"
	_ "github.com/sigstore/sigstore/pkg/signature"
	_ "go.podman.io/image/v5/directory"
	_ "go.podman.io/image/v5/image"
	_ "go.podman.io/image/v5/signature"
)
