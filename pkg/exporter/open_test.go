package exporter_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/exporter"
)

// newSparse makes disk.img with zeros as data at the places named.
func newSparse(t *testing.T, size int64, runs []run) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	for _, r := range runs {
		_, err := f.WriteAt(make([]byte, r.length), r.off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	return dir
}

func TestOpenRefuses(t *testing.T) {
	good, _ := newDisk(t, mib, run{0, mib})
	for name, c := range map[string]struct {
		change func(t *testing.T, o *exporter.Options)
		reason string
		says   string
	}{
		"nothing there": {change: func(_ *testing.T, o *exporter.Options) { o.Target += "/none" }, reason: exporter.NotFound, says: "holds no disk"},
		"no disk":       {change: func(t *testing.T, o *exporter.Options) { o.Target = t.TempDir() }, reason: exporter.NotFound, says: "disk.img"},
		"a file":        {change: func(_ *testing.T, o *exporter.Options) { o.Target += "/disk.img" }, reason: exporter.SourceRefused, says: "neither"},
		"a terminal":    {change: func(_ *testing.T, o *exporter.Options) { o.Target = "/dev/null" }, reason: exporter.SourceRefused, says: "neither"},
		"a link": {change: func(t *testing.T, o *exporter.Options) {
			dir := t.TempDir()
			require.NoError(t, os.Symlink(o.Target+"/disk.img", dir+"/disk.img"))
			o.Target = dir
		}, reason: exporter.SourceRefused, says: "no regular file"},
		"a link to a secret": {change: func(t *testing.T, o *exporter.Options) {
			dir := t.TempDir()
			require.NoError(t, os.Symlink(o.TokenFile, dir+"/disk.img"))
			o.Target = dir
		}, reason: exporter.SourceRefused, says: "no regular file"},
		"a link inside": {change: func(t *testing.T, o *exporter.Options) {
			dir := t.TempDir()
			write(t, dir+"/other", []byte("other"))
			require.NoError(t, os.Symlink("other", dir+"/disk.img"))
			o.Target = dir
		}, reason: exporter.SourceRefused, says: "no regular file"},
		"a pipe": {change: func(t *testing.T, o *exporter.Options) {
			o.Target = t.TempDir()
			require.NoError(t, unix.Mkfifo(o.Target+"/disk.img", 0o600))
		}, reason: exporter.SourceRefused, says: "no regular file"},
		"a directory": {change: func(t *testing.T, o *exporter.Options) {
			o.Target = t.TempDir()
			require.NoError(t, os.Mkdir(o.Target+"/disk.img", 0o700))
		}, reason: exporter.SourceRefused, says: "no regular file"},
		"no bytes": {change: func(t *testing.T, o *exporter.Options) {
			o.Target = t.TempDir()
			write(t, o.Target+"/disk.img", nil)
		}, reason: exporter.SourceRefused, says: "no bytes"},
		"no certificate": {change: func(_ *testing.T, o *exporter.Options) { o.Certificate = o.Key }, reason: exporter.InvalidSecret, says: "--tls-cert"},
		"no token file":  {change: func(_ *testing.T, o *exporter.Options) { o.TokenFile += "x" }, reason: exporter.InvalidSecret, says: "--token-file"},
		"short token":    {change: func(t *testing.T, o *exporter.Options) { write(t, o.TokenFile, []byte("canary\n")) }, reason: exporter.InvalidSecret, says: "16"},
		"two tokens":     {change: func(t *testing.T, o *exporter.Options) { write(t, o.TokenFile, []byte(token+"\n"+token)) }, reason: exporter.InvalidSecret, says: "one token"},
		"long token": {change: func(t *testing.T, o *exporter.Options) {
			write(t, o.TokenFile, []byte(strings.Repeat("canary", 1000)))
		}, reason: exporter.InvalidSecret, says: "one token"},
		"no target":         {change: func(_ *testing.T, o *exporter.Options) { o.Target = "" }, reason: exporter.InvalidOptions, says: "--target is missing"},
		"no listen":         {change: func(_ *testing.T, o *exporter.Options) { o.Listen = "" }, reason: exporter.InvalidOptions, says: "--listen"},
		"no revision":       {change: func(_ *testing.T, o *exporter.Options) { o.Revision = "" }, reason: exporter.InvalidOptions, says: "--revision is missing"},
		"quote":             {change: func(_ *testing.T, o *exporter.Options) { o.Revision = `a"b` }, reason: exporter.InvalidOptions, says: "--revision"},
		"line":              {change: func(_ *testing.T, o *exporter.Options) { o.Revision = "a\nb" }, reason: exporter.InvalidOptions, says: "--revision"},
		"letters of others": {change: func(_ *testing.T, o *exporter.Options) { o.Revision = "ü" }, reason: exporter.InvalidOptions, says: "--revision"},
		"long revision":     {change: func(_ *testing.T, o *exporter.Options) { o.Revision = strings.Repeat("a", 201) }, reason: exporter.InvalidOptions, says: "--revision"},
		"no time":           {change: func(_ *testing.T, o *exporter.Options) { o.Idle = 0 }, reason: exporter.InvalidOptions, says: "--idle"},
		"no connections":    {change: func(_ *testing.T, o *exporter.Options) { o.Connections = 0 }, reason: exporter.InvalidOptions, says: "--connections"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, good)
			c.change(t, &o)
			_, err := exporter.Open(o, exporter.System())
			var failure *exporter.Error
			require.ErrorAs(t, err, &failure)
			require.Equal(t, c.reason, failure.Reason(), "%v", err)
			require.Contains(t, err.Error(), c.says)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestListenRefuses(t *testing.T) {
	dir, _ := newDisk(t, mib, run{0, mib})
	o := options(t, dir)
	o.Listen = "127.0.0.1:none"
	e, err := exporter.Open(o, exporter.System())
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	_, err = e.Listen(t.Context())
	var failure *exporter.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, exporter.InvalidOptions, failure.Reason())
}
