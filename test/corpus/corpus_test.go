//go:build corpus

package corpus

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// route is one way from an image to a volume.
type route struct {
	name string
	// source is the path at the server of serve, or "file".
	source string
	// pack is the compression put around the image: a command and the suffix it stands for.
	pack string
	// sector is the logical block of the block device written to; empty: a file is written.
	sector string
	// small tells that the volume has smallVolume bytes.
	small bool
	// takes tells whether the row goes this way.
	takes func(row) bool
}

func routes() []route {
	all := func(row) bool { return true }
	// Disks without end are unpacked as a whole once.
	bounded := func(r row) bool { return r.expect != "limit" }
	plain := func(r row) bool { return bounded(r) && r.packing == "" }
	accepted := func(r row) bool { return r.expect == "accept" || r.expect == "either" && r.sha256+r.blocks != "" }
	return []route{
		{name: "file", source: "file", takes: all},
		{name: "ranges", source: "/ranges", takes: bounded},
		{name: "chunks of 17", source: "/chunks/17", takes: bounded},
		{name: "chunks of 4093, read once", source: "/once/4093", takes: bounded},
		{name: "chunks of 65537", source: "/chunks/65537", takes: bounded},
		{name: "gz in chunks of 4093", source: "/chunks/4093", pack: "gz", takes: plain},
		{name: "xz over ranges", source: "/ranges", pack: "xz", takes: plain},
		{name: "zst in a file", source: "file", pack: "zst", takes: plain},
		{name: "ranges to a device", source: "/ranges", sector: "512", takes: accepted},
		{name: "chunks of 65537 to a 4Kn device", source: "/chunks/65537", sector: "4096", takes: accepted},
		{name: "too small a volume", source: "/ranges", small: true, takes: func(r row) bool { return r.virtualSize > smallVolume }},
	}
}

func TestCorpus(t *testing.T) {
	rows := manifest(t)
	url := serve(t)
	watched := startCanaries(t)
	var seen report
	t.Run("route", func(t *testing.T) {
		for _, way := range routes() {
			t.Run(way.name, func(t *testing.T) {
				for _, r := range rows {
					if !way.takes(r) {
						continue
					}
					t.Run(r.file, func(t *testing.T) {
						t.Parallel()
						done := seen.start(way, r)
						o, wrong := importRow(t, url, way, r)
						if rang := watched.rang(t); len(rang) > 0 {
							wrong = append(wrong, "this row or one that ran beside it touched "+strings.Join(rang, ", "))
						}
						done(o, wrong)
						require.Empty(t, wrong, "expected %s (%s)\nexit code %d, %s: %s\n%s", r.expect, r.why, o.code, o.result.Reason, o.result.Message, o.stderr)
					})
				}
			})
		}
	})
	path := filepath.Join(home, "report.txt")
	require.NoError(t, os.WriteFile(path, []byte(seen.String()), 0o644))
	t.Log("\n" + seen.String())
}

// importRow sends one image one way and returns what is wrong with the end.
func importRow(t *testing.T, url string, way route, r row) (outcome, []string) {
	t.Helper()
	dir := stage(t, r)
	args := []string{"--scratch-dir=" + filepath.Join(dir, "scratch")}
	image := filepath.Join("images", r.file)
	if way.pack != "" {
		image = pack(t, r.file, way.pack)
	}
	if way.source == "file" {
		staged := filepath.Join(dir, "source", filepath.Base(image))
		require.NoError(t, os.Link(filepath.Join(home, image), staged))
		args = append(args, "--source=file://"+staged)
	} else {
		args = append(args, "--source="+url+way.source+"/"+image)
	}
	v := volumeFor(t, dir, way, r)
	args = append(args, "--target="+v.path())

	near := watchOpens(t, filepath.Join(dir, "source"))
	o := runImporter(t, filepath.Join(dir, "source"), args...)
	wrong := judge(t, way, r, o, v)
	for _, path := range near.opened(t) {
		if filepath.Base(path) != filepath.Base(image) {
			wrong = append(wrong, "opened "+path)
		}
	}
	return o, wrong
}

// stage makes a directory for one run, with canaries beside the image.
func stage(t *testing.T, r row) string {
	t.Helper()
	dir := directory(t, home)
	for _, name := range []string{"source", "target", "scratch"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	for _, name := range relativeCanaries {
		if name != r.file {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "source", name), []byte("canary"), 0o600))
		}
	}
	return dir
}

// volumeFor makes the volume to write to. Large disks go to memory: what they hold is little.
func volumeFor(t *testing.T, dir string, way route, r row) volume {
	t.Helper()
	switch {
	case way.sector == "512":
		return newBlockVolume(t, dir, max(r.virtualSize, 512), way.sector)
	case way.sector != "":
		// Larger than the disk, by a whole number of blocks.
		return newBlockVolume(t, dir, (r.virtualSize+mib+4095)/4096*4096, way.sector)
	case way.small:
		return fileVolume{directory(t, filepath.Join(home, "small"))}
	case r.virtualSize > smallVolume || r.expect == "limit":
		return fileVolume{directory(t, filepath.Join(home, "roomy"))}
	}
	return fileVolume{filepath.Join(dir, "target")}
}

// directory makes one that is removed after the test. Near the root, a name such as
// "../../../../etc" in an image leads to /etc.
func directory(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "run") //nolint:usetesting // t.TempDir has no choice of the place
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// pack compresses an image and returns its path below home. It is kept for the next run.
func pack(t *testing.T, file, kind string) string {
	t.Helper()
	path := filepath.Join("wrapped", file+"."+kind)
	if _, err := os.Stat(filepath.Join(home, path)); err == nil {
		return path
	}
	require.NoError(t, os.MkdirAll(filepath.Join(home, "wrapped"), 0o755))
	out, err := os.CreateTemp(filepath.Join(home, "wrapped"), "new")
	require.NoError(t, err)
	tool := map[string][]string{"gz": {"gzip", "-1", "-c"}, "xz": {"xz", "-0", "-c"}, "zst": {"zstd", "-q", "-1", "-c"}}[kind]
	command := exec.CommandContext(t.Context(), tool[0], append(tool[1:], filepath.Join(home, "images", file))...)
	command.Stdout = out
	require.NoError(t, command.Run())
	require.NoError(t, out.Close())
	require.NoError(t, os.Rename(out.Name(), filepath.Join(home, path)))
	return path
}
