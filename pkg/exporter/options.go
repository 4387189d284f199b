package exporter

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Options says what one exporter serves, and to whom. It holds no secret: secrets are files.
type Options struct {
	// Target is a block device, or a directory with disk.img.
	Target string
	// Listen is the address and port of the server, for example ":8443".
	Listen string
	// Certificate and Key are PEM files for TLS.
	Certificate, Key string
	// TokenFile holds the bearer token that readers must send.
	TokenFile string
	// Revision names the content of the volume, in printable ASCII without blanks, quotes and
	// backslashes. The ETag begins with it.
	Revision string
	// Idle is how long nobody may ask before the exporter ends.
	Idle time.Duration
	// Connections is how many may be open at once. More wait.
	Connections int
}

// maxRevision bounds Options.Revision in bytes: the importer keeps ETags of up to 256.
const maxRevision = 200

// BindFlags sets o to the defaults and ties each field to its flag.
func (o *Options) BindFlags(fs *pflag.FlagSet) {
	*o = Options{}
	fs.StringVar(&o.Target, "target", "", "`PATH` of a block device, or of a directory with disk.img")
	fs.StringVar(&o.Listen, "listen", ":8443", "`ADDRESS` and port to serve at")
	fs.StringVar(&o.Certificate, "tls-cert", "", "`FILE` with the PEM certificate of the server")
	fs.StringVar(&o.Key, "tls-key", "", "`FILE` with its PEM key")
	fs.StringVar(&o.TokenFile, "token-file", "", "`FILE` with the bearer token that readers must send")
	fs.StringVar(&o.Revision, "revision", "", "`TEXT` that names the content of the volume: the ETag begins with it")
	fs.DurationVar(&o.Idle, "idle", 5*time.Minute, "`TIME` without a request after which the exporter ends")
	fs.IntVar(&o.Connections, "connections", 16, "`NUMBER` of connections that may be open at once")
}

// Validate reports the first option that cannot work. It looks at nothing but o.
func (o Options) Validate() error {
	for _, needed := range []struct{ value, message string }{
		{o.Target, "--target is missing: give a block device, or a directory with disk.img"},
		{o.Listen, "--listen is empty: give an address and port, for example :8443"},
		{o.Certificate, "--tls-cert is missing: give a file with a PEM certificate"},
		{o.Key, "--tls-key is missing: give a file with the PEM key of --tls-cert"},
		{o.TokenFile, "--token-file is missing: give a file with the token that readers must send"},
		{o.Revision, "--revision is missing: give a text that names the content of the volume"},
	} {
		if needed.value == "" {
			return errors.New(needed.message)
		}
	}
	if len(o.Revision) > maxRevision || strings.ContainsFunc(o.Revision, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		return errors.New("--revision must be at most 200 printable ASCII characters without blanks, quotes and backslashes")
	}
	if o.Idle <= 0 || o.Connections <= 0 {
		return errors.New("--idle and --connections must be more than 0")
	}
	return nil
}
