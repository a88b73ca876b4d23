module countersign/registry

go 1.27.0

require github.com/google/go-containerregistry v0.22.1
