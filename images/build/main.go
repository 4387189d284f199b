// Command build makes a container image from a Dockerfile of few instructions without
// Docker, and writes it as a file that "docker load" and "ctr image import" read.
//
// The time in the image is SOURCE_DATE_EPOCH, seconds since 1970, by default 0.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	file := flag.String("file", "Dockerfile", "the Dockerfile")
	context := flag.String("context", ".", "the folder its ADD and COPY read")
	arch := flag.String("arch", runtime.GOARCH, "the processor architecture the files are for")
	tag := flag.String("tag", "", "the name of the image, NAME:TAG")
	output := flag.String("output", "", "the file to write")
	flag.Parse()
	digest, err := build(*file, *context, *arch, *tag, *output)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// build writes the image and returns its digest.
func build(file, context, arch, tag, output string) (string, error) {
	created, err := epoch(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return "", err
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		return "", fmt.Errorf("reading -tag: %w", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("opening Dockerfile: %w", err)
	}
	defer f.Close()
	r, err := parse(f)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", file, err)
	}
	img, err := assemble(r, context, arch, created)
	if err != nil {
		return "", err
	}
	if err := tarball.WriteToFile(output, ref, img); err != nil {
		return "", fmt.Errorf("writing image: %w", err)
	}
	digest, err := img.Digest()
	return digest.String(), err
}

func epoch(value string) (time.Time, error) {
	if value == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
