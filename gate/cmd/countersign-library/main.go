// Command countersign-library asks go.podman.io/image, the engine within CRI-O,
// for its verdict about images, with the files that a CRI-O would read. It
// pulls nothing, and it stands in no path of a container's start: it tells
// what the engine makes of a policy where there is no CRI-O to run.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

// deadline bounds the verdict about one image, registry included.
const deadline = 30 * time.Second

// verdict is one line of the output. An image that could not be judged is not
// allowed either; its message says why.
type verdict struct {
	Image   string `json:"image"`
	Allow   bool   `json:"allow"`
	Message string `json:"message"`
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "countersign-library:", err)
		os.Exit(2)
	}
}

// run judges every image that is named, and writes one JSON line for each.
func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("countersign-library", flag.ContinueOnError)
	policyFile := flags.String("policy", "", "containers-policy.json(5)")
	sys := &types.SystemContext{}
	flags.StringVar(&sys.RegistriesDirPath, "registries-d", "", "folder of containers-registries.d(5)")
	flags.StringVar(&sys.SystemRegistriesConfPath, "registries-conf", "", "containers-registries.conf(5)")
	flags.StringVar(&sys.DockerPerHostCertDirPath, "certs-dir", "", "folder of containers-certs.d(5); none: no CA but the system's")
	flags.StringVar(&sys.AuthFilePath, "auth", "", "containers-auth.json(5); none: no credentials")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *policyFile == "" || sys.RegistriesDirPath == "" || sys.SystemRegistriesConfPath == "" || flags.NArg() == 0 {
		return fmt.Errorf("expected --policy FILE, --registries-d FOLDER, --registries-conf FILE and at least one image")
	}
	// Nothing of this machine's own configuration may have a say: what is empty here, the library looks for there.
	sys.SystemRegistriesConfDirPath = sys.SystemRegistriesConfPath + ".d"
	none := sys.SystemRegistriesConfPath + ".none"
	sys.DockerPerHostCertDirPath = cmp.Or(sys.DockerPerHostCertDirPath, none)
	sys.AuthFilePath = cmp.Or(sys.AuthFilePath, none)
	policy, err := signature.NewPolicyFromFile(*policyFile)
	if err != nil {
		return err
	}
	engine, err := signature.NewPolicyContext(policy)
	if err != nil {
		return err
	}
	defer func() { _ = engine.Destroy() }()
	encoder := json.NewEncoder(out)
	for _, name := range flags.Args() {
		line := verdict{Image: name}
		if err := judge(sys, engine, name); err != nil {
			line.Message = err.Error()
		} else {
			line.Allow = true
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// judge returns nil if the engine accepts the manifest that a pull of the image
// would take: of a list the one for this platform, as copy.Image chooses it
// (go.podman.io/image, copy/copy.go).
func judge(sys *types.SystemContext, engine *signature.PolicyContext, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ref, err := docker.ParseReference("//" + name)
	if err != nil {
		return err
	}
	source, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	unparsed := image.UnparsedInstance(source, nil)
	content, kind, err := unparsed.Manifest(ctx)
	if err != nil {
		return err
	}
	if manifest.MIMETypeIsMultiImage(kind) {
		list, err := manifest.ListFromBlob(content, kind)
		if err != nil {
			return err
		}
		instance, err := list.ChooseInstance(sys)
		if err != nil {
			return err
		}
		unparsed = image.UnparsedInstance(source, &instance)
	}
	allowed, err := engine.IsRunningImageAllowed(ctx, unparsed)
	if err == nil && !allowed {
		return fmt.Errorf("not allowed, without a reason")
	}
	return err
}
