// Command registry is what the tests pull images from: distribution's registry in several ways
// at once over the same images, with the faults that a test asks for.
//
//	control   no TLS: PUT /control/users/NAME adds a user, /control/faults and /control/requests are those of
//	          package fault, and images are pushed here, without authentication and faults
//	plain     no TLS, no authentication
//	guarded   no TLS, basic authentication
//	tls       TLS, no authentication
//	basic     TLS, basic authentication
//	token     TLS, tokens of its own token server; anybody gets one for library/…
//	redirect  TLS, basic authentication, and blobs come from the store
//	store     TLS, blobs only, for anybody but who shows credentials
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/gild-project/gild/test/registry/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("registry", flag.ContinueOnError)
	dir := flags.String("dir", ".", "folder for images, users and keys")
	certs := flags.String("tls-dir", "", "folder with tls.crt and tls.key; empty: made for -host, with ca.crt, in -dir")
	host := flags.String("host", "localhost", "name or IP address that a certificate is made for")
	store := flags.String("store-url", "", "URL by which clients find the store")
	addresses := map[string]*string{}
	for _, way := range ways() {
		addresses[way.name] = flags.String(way.name, "", "address of "+way.name+"; empty for none")
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	logrus.SetLevel(logrus.FatalLevel) // distribution's own logger; package fault has the requests
	if *certs == "" {
		*certs = *dir
		if err := writeCertificates(*dir, *host); err != nil {
			return err
		}
	}
	p, err := newParts(*dir, *store, fault.New())
	if err != nil {
		return err
	}
	return serve(ctx, p, addresses, *certs)
}
