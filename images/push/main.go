// Command push copies an image from a file that images/image.sh or "docker save" wrote
// to a registry and prints its reference by digest. Credentials are those of "docker
// login"; a registry on this machine or in a private network may speak plain HTTP.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: push FILE REGISTRY/NAME:TAG")
	}
	img, err := tarball.ImageFromPath(args[0], nil)
	if err != nil {
		return fmt.Errorf("reading image: %w", err)
	}
	ref, err := name.NewTag(args[1], name.StrictValidation)
	if err != nil {
		return fmt.Errorf("reading target: %w", err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("pushing to %s: %w", ref.Registry, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Println(ref.Context().Digest(digest.String()))
	return err
}
