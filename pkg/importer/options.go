package importer

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Values of Options.TargetFormat and Options.SourceFormat.
const (
	FormatAuto  = "auto"
	FormatRaw   = "raw"
	FormatQcow2 = "qcow2"
	FormatISO   = "iso"
)

// SourceBlank is the Source of a disk of nothing but zeros, as large as TargetSize says.
const SourceBlank = "blank:"

// Values of Options.Content.
const (
	ContentAuto   = "auto"
	ContentDisk   = "disk"
	ContentRootfs = "rootfs"
	ContentFiles  = "files"
)

// sourceFormats are the values of Options.SourceFormat.
func sourceFormats() []string {
	return []string{FormatAuto, FormatRaw, FormatISO, FormatQcow2, "vmdk", "vhd", "vpc", "vhdx", "vdi", "gz", "xz", "zst", "bz2"}
}

// Values of Options.Progress.
const (
	// ProgressAuto is a bar on a terminal and plain lines elsewhere.
	ProgressAuto = "auto"
	// ProgressBar is always a bar.
	ProgressBar = "bar"
	// ProgressJSON is one Progress object per line and the Result as the last line.
	ProgressJSON = "json"
	// ProgressNone prints nothing but the outcome, on stderr.
	ProgressNone = "none"
)

// defaultRegistryConfig is where container tools keep their settings of registries.
const defaultRegistryConfig = "/etc/containers"

// Options says what one run of the importer does. It holds no secret: secrets are
// files in SecretDir.
type Options struct {
	// Source is the URL of the image: http, https or file, or where a container image is: docker or
	// oci. It has neither user nor password. SourceBlank is no image.
	Source string
	// Target is a block device, a file to create, or a directory that gets disk.img.
	Target string
	// TargetSize is the virtual size to grow the disk to, in bytes. 0 keeps the image's own.
	TargetSize Size
	// TargetFormat is the format of the disk on the volume: raw or qcow2.
	TargetFormat string
	// SourceFormat is auto, or the format that the image must have.
	SourceFormat string
	// Platform is OS/ARCH or OS/ARCH/VARIANT, for container images. Empty means this machine's.
	Platform string
	// Content says what to take of a container image: the disk in it, its root file system as a
	// disk, or its files. auto is the disk, or without one the root file system.
	Content string
	// Checksum is ALG:HEX of the bytes as served; ALG is sha256 or sha512. Empty checks nothing.
	Checksum string
	// Pin names the one revision of the source that may be imported.
	Pin Pin
	// Digest has the sha256 of the bytes as served computed for the Result, although no Checksum asks
	// for it. All of them are read then. The digest of a container image is known without.
	Digest bool
	// SecretDir holds credentials for the source; docs/importer.md lists its files.
	SecretDir string
	// CADir holds PEM files with certificates to trust beside the system's.
	CADir string
	// RegistryConfig is a directory with registries.conf and policy.json, which need not be there.
	RegistryConfig string
	// ScratchDir is where an image is kept that can neither be read at random nor in one pass.
	ScratchDir string
	// Checkpoint is a file that says how far an earlier run came. It is kept up to date where it can be
	// written, and removed at the end.
	Checkpoint string
	// Progress is auto, bar, json or none.
	Progress string
	// TerminationLog is the file that gets the Result, where Kubernetes reads it. Empty writes none.
	TerminationLog string
	// DryRun looks at the source and the target and prints what would be done. It writes nothing.
	DryRun bool
}

// BindFlags sets o to the defaults and ties each field to its flag.
func (o *Options) BindFlags(fs *pflag.FlagSet) {
	*o = Options{}
	fs.StringVar(&o.Source, "source", "", "`URL` of the image: http, https, file, docker or oci; blank: is a disk of zeros")
	fs.StringVar(&o.Target, "target", "", "`PATH` of a block device, a file to create, or a directory that gets disk.img")
	fs.Var(&o.TargetSize, "target-size", "virtual size to grow the disk to, for example 20Gi; not set: the image's own")
	fs.StringVar(&o.TargetFormat, "target-format", FormatRaw, "`FORMAT` of the disk on the volume: raw or qcow2")
	fs.StringVar(&o.SourceFormat, "source-format", FormatAuto, "`FORMAT` the image must have: "+strings.Join(sourceFormats(), ", "))
	fs.StringVar(&o.Platform, "platform", "", "`OS/ARCH` of a container image; not set: this machine's")
	fs.StringVar(&o.Content, "content", ContentAuto, "`WHAT` to take of a container image: auto, disk, rootfs or files")
	fs.StringVar(&o.Checksum, "checksum", "", "`ALG:HEX` of the bytes as served; ALG is sha256 or sha512")
	fs.Var(&o.Pin, "pin", `the one revision to import: {"etag":…,"lastModified":…,"length":…,"digest":…}`)
	fs.BoolVar(&o.Digest, "digest", false, "report the sha256 of the bytes as served, although no --checksum asks for it")
	fs.StringVar(&o.SecretDir, "secret-dir", "", "`DIR` with credentials for the source")
	fs.StringVar(&o.CADir, "ca-dir", "", "`DIR` with PEM certificates to trust beside the system's")
	fs.StringVar(&o.RegistryConfig, "registry-config", defaultRegistryConfig, "`DIR` with registries.conf and policy.json, if there are any")
	fs.StringVar(&o.ScratchDir, "scratch-dir", "", "`DIR` to keep an image in that cannot be read in place")
	fs.StringVar(&o.Checkpoint, "checkpoint", "", "`FILE` to continue from, and to keep up to date while it can be written")
	fs.StringVar(&o.Progress, "progress", ProgressAuto, "`MODE` of showing progress: auto, bar, json or none")
	fs.StringVar(&o.TerminationLog, "termination-log", "", "`PATH` of a file that gets the result as JSON")
	fs.BoolVar(&o.DryRun, "dry-run", false, "print what would be done, write nothing")
}

// Args returns the command line that BindFlags reads back into o: one argument for each
// field that differs from its default, in the order of BindFlags. It is built from the
// flags themselves, so the two cannot drift apart.
func (o Options) Args() []string {
	var bound Options
	return arguments(func(fs *pflag.FlagSet) {
		bound.BindFlags(fs)
		bound = o
	})
}

// arguments are the flags that differ from their defaults. bind binds options to their flags, then sets them.
func arguments(bind func(fs *pflag.FlagSet)) []string {
	fs := pflag.NewFlagSet("importer", pflag.ContinueOnError)
	fs.SortFlags = false
	bind(fs)
	var args []string
	fs.VisitAll(func(f *pflag.Flag) {
		if v := f.Value.String(); v != f.DefValue {
			args = append(args, "--"+f.Name+"="+v)
		}
	})
	return args
}

// Validate reports the first option that cannot work. It looks at nothing but o.
func (o Options) Validate() error {
	if err := validateSource(o.Source); err != nil {
		return err
	}
	if o.Target == "" {
		return errors.New("--target is missing: give a block device, a file or a directory")
	}
	if o.Checkpoint != "" && filepath.Clean(o.Checkpoint) == filepath.Clean(o.Target) {
		return errors.New("--checkpoint and --target are the same file")
	}
	if o.Source == SourceBlank && o.TargetSize == 0 {
		return errors.New("--target-size is missing: say how large the blank disk is")
	}
	if o.TargetSize < 0 {
		return errors.New("--target-size must not be negative")
	}
	if o.TargetSize%512 != 0 {
		return fmt.Errorf("--target-size %d is not a multiple of 512 bytes", int64(o.TargetSize))
	}
	if err := oneOf("target-format", o.TargetFormat, FormatRaw, FormatQcow2); err != nil {
		return err
	}
	if err := oneOf("source-format", o.SourceFormat, sourceFormats()...); err != nil {
		return err
	}
	if err := oneOf("progress", o.Progress, ProgressAuto, ProgressBar, ProgressJSON, ProgressNone); err != nil {
		return err
	}
	if o.Checksum != "" {
		if _, err := ParseChecksum(o.Checksum); err != nil {
			return fmt.Errorf("--checksum: %w", err)
		}
	}
	if err := o.Pin.Validate(); err != nil {
		return fmt.Errorf("--pin: %w", err)
	}
	return o.validateContainer()
}

// validateContainer looks at the options that make sense for container images only, or never for them.
func (o Options) validateContainer() error {
	if err := oneOf("content", o.Content, ContentAuto, ContentDisk, ContentRootfs, ContentFiles); err != nil {
		return err
	}
	if parts := strings.Split(o.Platform, "/"); o.Platform != "" && (len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "")) {
		return fmt.Errorf("--platform %q is unknown: write OS/ARCH or OS/ARCH/VARIANT, for example linux/arm64", o.Platform)
	}
	if !o.Container() {
		if o.Platform != "" || o.Content != ContentAuto {
			return errors.New("--platform and --content are for container images: use them with a docker or oci source")
		}
		return nil
	}
	if o.Checksum != "" {
		return errors.New("--checksum is not for container images, whose digests are checked anyway: name the digest in --source")
	}
	if o.Content == ContentFiles && (o.TargetFormat != FormatRaw || o.TargetSize != 0 || o.SourceFormat != FormatAuto) {
		return errors.New("--content files makes no disk: leave out --target-format, --target-size and --source-format")
	}
	return nil
}

// Container tells a source that is a container image.
func (o Options) Container() bool {
	scheme, _, _ := strings.Cut(o.Source, ":")
	return scheme == "docker" || scheme == "oci"
}

// validateSource never repeats the URL: its query may hold a secret.
func validateSource(source string) error {
	if source == "" {
		return errors.New("--source is missing: give the URL of a disk image")
	}
	if reference, ok := strings.CutPrefix(source, "docker://"); ok {
		return validateReference(reference)
	}
	u, err := url.Parse(source)
	if err != nil {
		return errors.New("--source is not a URL")
	}
	if u.User != nil {
		return errors.New("--source must not hold a user or password: put them in files in --secret-dir")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return errors.New("--source names no host")
		}
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return errors.New("--source is a file URL with a host: write file:///path")
		}
		if !filepath.IsAbs(u.Path) {
			return errors.New("--source is a file URL without an absolute path: write file:///path")
		}
	case "blank":
		if source != SourceBlank {
			return errors.New("--source blank: has nothing behind the colon: give the size with --target-size")
		}
	case "oci":
		if u.Opaque == "" && u.Path == "" {
			return errors.New("--source names no layout: write oci:DIR or oci:FILE.tar, with :TAG or @DIGEST if there are several images")
		}
	default:
		return errors.New("--source has an unsupported scheme: use http, https, file, docker, oci or blank")
	}
	return nil
}

// validateReference refuses what would be a secret. The rest is for those who know references.
func validateReference(reference string) error {
	host, name, found := strings.Cut(reference, "/")
	switch {
	case strings.Contains(host, "@") && found:
		return errors.New("--source must not hold a user or password: put them in files in --secret-dir")
	case host == "" || found && name == "":
		return errors.New("--source names no image: write docker://HOST/NAME:TAG")
	}
	return nil
}

func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("--%s %q is unknown: use %s", flag, value, strings.Join(allowed, ", "))
}
