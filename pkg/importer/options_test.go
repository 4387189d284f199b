package importer_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/importer"
)

func parse(t *testing.T, args []string) (importer.Options, *pflag.FlagSet) {
	t.Helper()
	var o importer.Options
	fs := pflag.NewFlagSet("importer", pflag.ContinueOnError)
	o.BindFlags(fs)
	require.NoError(t, fs.Parse(args))
	require.Zero(t, fs.NArg())
	return o, fs
}

// FuzzArgs proves that what the controller writes is what the importer reads.
func FuzzArgs(f *testing.F) {
	f.Add("https://host/disk.img?sig=a=b", "/dev/disk", int64(20<<30), "raw", "auto", "linux/arm64", "files", "/r", "sha256:00", "\"etag\"", "Mon", int64(7), "/s", "/c", "/x", "json", "/t", true, true)
	f.Add("", "", int64(0), "", "", "", "", "", "", "", "", int64(0), "", "", "", "", "", false, false)
	f.Add("--target=x", "- -", int64(-5<<20), "\n", " ", "/", "--", "=", "\"", "\\", "\x00", int64(-1), "é", "=", "--", "'", "$(x)", true, false)
	f.Fuzz(func(t *testing.T, source, target string, size int64, targetFormat, sourceFormat, platform, content, registryConfig, checksum, etag, lastModified string,
		length int64, secretDir, caDir, scratchDir, progress, terminationLog string, dryRun, digest bool) {
		o := importer.Options{
			Source: source, Target: target, TargetSize: importer.Size(size), TargetFormat: targetFormat, SourceFormat: sourceFormat,
			Platform: platform, Content: content, RegistryConfig: registryConfig, Checksum: checksum,
			// JSON, and a pod's args, hold valid UTF-8 only.
			Pin:       importer.Pin{ETag: strings.ToValidUTF8(etag, ""), LastModified: strings.ToValidUTF8(lastModified, ""), Length: length},
			SecretDir: secretDir, CADir: caDir, ScratchDir: scratchDir, Progress: progress, TerminationLog: terminationLog, DryRun: dryRun, Digest: digest,
		}
		read, _ := parse(t, o.Args())
		require.Equal(t, o, read)
	})
}

func TestArgsHasOneArgumentForEachFlag(t *testing.T) {
	o := importer.Options{
		Source: "a", Target: "b", TargetSize: 1, TargetFormat: "c", SourceFormat: "d", Platform: "m", Content: "n", Checksum: "e", Pin: importer.Pin{ETag: "f"},
		SecretDir: "g", CADir: "h", RegistryConfig: "o", ScratchDir: "i", Checkpoint: "l", Progress: "j", TerminationLog: "k", DryRun: true, Digest: true,
	}
	fields := reflect.ValueOf(o)
	for i := range fields.NumField() {
		require.False(t, fields.Field(i).IsZero(), "the test must set %s", fields.Type().Field(i).Name)
	}
	args := o.Args()
	_, fs := parse(t, args)
	var flags int
	fs.VisitAll(func(*pflag.Flag) { flags++ })
	require.Len(t, args, flags)
	require.Equal(t, fields.NumField(), flags)
}

func TestArgsLeavesDefaultsOut(t *testing.T) {
	o, _ := parse(t, nil)
	o.Source, o.Target, o.TargetSize = "https://host/disk.qcow2", "/dev/disk", 20<<30
	require.Equal(t, []string{"--source=https://host/disk.qcow2", "--target=/dev/disk", "--target-size=20Gi"}, o.Args())
}

func TestValidate(t *testing.T) {
	sha256 := "sha256:" + strings.Repeat("ab", 32)
	cases := map[string]struct {
		args []string
		want string
	}{
		"good":               {[]string{"--source=https://host/a?b=c", "--target=x"}, ""},
		"good file":          {[]string{"--source=file:///a", "--target=x", "--target-size=20Gi", "--checksum=" + sha256}, ""},
		"good pin":           {[]string{"--source=http://host/a", "--target=x", `--pin={"etag":"\"x\"","length":3,"digest":"` + sha256 + `"}`}, ""},
		"good image":         {[]string{"--source=docker://host:5000/a/b:c@" + sha256, "--target=x", "--platform=linux/arm/v7", "--content=rootfs"}, ""},
		"good layout":        {[]string{"--source=oci:./a.tar:b", "--target=x", "--content=files"}, ""},
		"no image":           {[]string{"--source=docker://", "--target=x"}, "names no image"},
		"no name":            {[]string{"--source=docker://host/", "--target=x"}, "names no image"},
		"password in image":  {[]string{"--source=docker://u:canary@host/a", "--target=x"}, "--secret-dir"},
		"no layout":          {[]string{"--source=oci:", "--target=x"}, "names no layout"},
		"platform":           {[]string{"--source=docker://host/a", "--target=x", "--platform=arm64"}, "for example linux/arm64"},
		"content":            {[]string{"--source=docker://host/a", "--target=x", "--content=all"}, "use auto, disk, rootfs, files"},
		"platform of a file": {[]string{"--source=https://host/a", "--target=x", "--platform=linux/arm64"}, "container images"},
		"content of a file":  {[]string{"--source=https://host/a", "--target=x", "--content=disk"}, "container images"},
		"image and checksum": {[]string{"--source=docker://host/a", "--target=x", "--checksum=" + sha256}, "digest in --source"},
		"files and size":     {[]string{"--source=docker://host/a", "--target=x", "--content=files", "--target-size=1Gi"}, "makes no disk"},
		"no source":          {[]string{"--target=x"}, "--source is missing"},
		"no target":          {[]string{"--source=https://host/a"}, "--target is missing"},
		"password in source": {[]string{"--source=https://u:canary@host/a", "--target=x"}, "--secret-dir"},
		"broken source":      {[]string{"--source=https://host:canary/a", "--target=x"}, "--source is not a URL"},
		"no host":            {[]string{"--source=https:///canary", "--target=x"}, "names no host"},
		"blank":              {[]string{"--source=blank:", "--target=x", "--target-size=1Gi"}, ""},
		"blank of no size":   {[]string{"--source=blank:", "--target=x"}, "--target-size is missing"},
		"blank and more":     {[]string{"--source=blank:1Gi", "--target=x", "--target-size=1Gi"}, "nothing behind the colon"},
		"unknown scheme":     {[]string{"--source=gopher://canary/a", "--target=x"}, "unsupported scheme"},
		"file with host":     {[]string{"--source=file://canary/a", "--target=x"}, "file:///path"},
		"relative file":      {[]string{"--source=file:canary", "--target=x"}, "file:///path"},
		"odd size":           {[]string{"--source=https://host/a", "--target=x", "--target-size=1000"}, "multiple of 512"},
		"negative size":      {[]string{"--source=https://host/a", "--target=x", "--target-size=-1Gi"}, "negative"},
		"target format":      {[]string{"--source=https://host/a", "--target=x", "--target-format=vmdk"}, "use raw, qcow2"},
		"source format":      {[]string{"--source=https://host/a", "--target=x", "--source-format=zip"}, "use auto, raw, iso, qcow2, vmdk"},
		"progress":           {[]string{"--source=https://host/a", "--target=x", "--progress=loud"}, "use auto, bar, json, none"},
		"checksum algorithm": {[]string{"--source=https://host/a", "--target=x", "--checksum=md5:00"}, "write sha256:HEX or sha512:HEX"},
		"checksum length":    {[]string{"--source=https://host/a", "--target=x", "--checksum=sha256:00"}, "64 hexadecimal digits"},
		"pin digest":         {[]string{"--source=https://host/a", "--target=x", `--pin={"digest":"x"}`}, "--pin: digest"},
		"pin length":         {[]string{"--source=https://host/a", "--target=x", `--pin={"length":-1}`}, "--pin: length"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o, _ := parse(t, c.args)
			err := o.Validate()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestPinRefusesUnknownConditions(t *testing.T) {
	for _, text := range []string{`{"etags":"x"}`, `{} {}`, `[]`, `x`} {
		var p importer.Pin
		require.Error(t, p.Set(text), text)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "512": 512, "20Gi": 20 << 30, "20G": 20e9, "1k": 1000, "8191Pi": 8191 << 50, "-1Mi": -1 << 20} {
		var s importer.Size
		require.NoError(t, s.Set(text), text)
		require.Equal(t, want, int64(s), text)
		var back importer.Size
		require.NoError(t, back.Set(s.String()))
		require.Equal(t, s, back)
	}
	for _, text := range []string{"", "Gi", "1.5Gi", "1 Gi", "8192Pi", "-9000Pi", "1KB", "0x10"} {
		var s importer.Size
		require.Error(t, s.Set(text), text)
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 20 << 30: "20 GiB", 3 << 40: "3 TiB"} {
		require.Equal(t, want, importer.Human(n))
	}
}
