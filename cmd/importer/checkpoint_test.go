package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/importer"
)

// journey is one import that is killed and goes on.
type journey struct {
	place
	dam        *dam
	checkpoint string
	flags      []string
}

func newJourney(t *testing.T, image []byte, device bool, flags ...string) *journey {
	t.Helper()
	return &journey{
		place: newPlace(t, device, 100*mib), dam: newDam(t, image),
		checkpoint: filepath.Join(t.TempDir(), "checkpoint"), flags: flags,
	}
}

func (j *journey) command(t *testing.T, out *bytes.Buffer) *exec.Cmd {
	t.Helper()
	args := append([]string{"--source=" + j.dam.URL + "/disk", "--target=" + j.target, "--checkpoint=" + j.checkpoint, "--progress=json"}, j.flags...)
	command := exec.CommandContext(t.Context(), "importer-often", args...)
	command.Env = append(os.Environ(), "HTTP_PROXY=", "http_proxy=")
	command.Stdout, command.Stderr = out, out
	return command
}

// stop runs the importer until it has brought some bytes and made a checkpoint behind after, and
// sends it a signal.
func (j *journey) stop(t *testing.T, after int64, signal syscall.Signal) (importer.Checkpoint, string) {
	t.Helper()
	j.dam.open(enough)
	var out bytes.Buffer
	command := j.command(t, &out)
	require.NoError(t, command.Start())
	var c importer.Checkpoint
	require.Eventually(t, func() bool {
		c = j.stored(t)
		if c.Offset <= after {
			j.dam.ease()
		}
		return c.Offset > after
	}, time.Minute, 10*time.Millisecond, "no checkpoint behind %d", after)
	require.NoError(t, command.Process.Signal(signal))
	require.Error(t, command.Wait())
	// The last one may have come after the look.
	if now := j.stored(t); now.Offset > 0 {
		c = now
	}
	return c, out.String()
}

// continues puts what a killed import to a file has left where this one finds it. The mode of the file says that it was synced.
func (j *journey) continues(t *testing.T, killed *journey) {
	t.Helper()
	for from, to := range map[string]string{killed.checkpoint: j.checkpoint, killed.unfinished(): j.unfinished()} {
		out, err := exec.CommandContext(t.Context(), "cp", "--sparse=auto", "--preserve=mode", from, to).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

func (j *journey) stored(t *testing.T) importer.Checkpoint {
	t.Helper()
	text, err := os.ReadFile(j.checkpoint)
	if err != nil {
		return importer.Checkpoint{}
	}
	var c importer.Checkpoint
	require.NoError(t, json.Unmarshal(text, &c))
	return c
}

// finish runs the importer to its end and returns how many bytes the server sent.
func (j *journey) finish(t *testing.T) (served int64, result importer.Result, out string) {
	t.Helper()
	j.dam.open(-1)
	var printed bytes.Buffer
	_ = j.command(t, &printed).Run()
	lines := strings.Split(strings.TrimSpace(printed.String()), "\n")
	result, err := importer.ParseResult([]byte(lines[len(lines)-1]))
	require.NoError(t, err, printed.String())
	return j.dam.open(-1), result, printed.String()
}

func (j *journey) requireNothingLeft(t *testing.T) {
	t.Helper()
	for _, path := range []string{j.checkpoint, j.checkpoint + ".partial", j.target + ".partial"} {
		require.NoFileExists(t, path)
	}
}

// enough bytes for a checkpoint: six pieces of 4 MiB may be under way before the first one is there.
const enough = 28 * mib

// large is a disk of 48 MiB: too much to be on its way all at once. It has holes.
func large(seed byte) []byte {
	b := make([]byte, 48*mib)
	noise(b, seed)
	for off := 0; off < len(b); off += 2 * mib {
		clear(b[off+3*mib/2 : off+2*mib])
	}
	return b
}

// asQcow2 makes an image of a disk.
func asQcow2(t *testing.T, disk []byte, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	raw, image := filepath.Join(dir, "raw"), filepath.Join(dir, "image")
	require.NoError(t, os.WriteFile(raw, disk, 0o600))
	args := append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, options...), raw, image)
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	b, err := os.ReadFile(image)
	require.NoError(t, err)
	return b
}

func TestKilledImportGoesOn(t *testing.T) {
	disk := append(large(1), large(2)...)
	images := map[string][]byte{"raw": disk}
	if haveQemu() {
		images["qcow2"], images["zstd"] = asQcow2(t, disk), asQcow2(t, disk, "-c", "-o", "compression_type=zstd")
	}
	for name, image := range images {
		for _, device := range []bool{false, true} {
			for _, checksum := range []string{"", "--checksum=sha256:" + sum(image)} {
				t.Run(fmt.Sprintf("%s, device %t, %.10s", name, device, checksum), func(t *testing.T) {
					var flags []string
					if checksum != "" {
						flags = append(flags, checksum)
					}
					j := newJourney(t, image, device, flags...)
					size := int64(len(image))
					// Nothing but the head, the tables and what is behind the checkpoint comes again.
					first, _ := j.stop(t, 0, syscall.SIGKILL)
					second, _ := j.stop(t, first.Offset, syscall.SIGKILL)
					served, result, out := j.finish(t)
					require.Equal(t, importer.Imported, result.Reason, out)
					require.NotContains(t, out, "starting at the first byte")
					require.LessOrEqual(t, served, size-second.Offset+mib, "from byte %d on", second.Offset)
					j.requireDisk(t, disk)
					j.requireNothingLeft(t)
				})
			}
		}
	}
}

// TestCheckpointThatIsNotTrue changes something between two runs. The second one begins anew.
func TestCheckpointThatIsNotTrue(t *testing.T) {
	one, other := large(1), large(2)
	edit := func(t *testing.T, j *journey, change func(c *importer.Checkpoint)) {
		t.Helper()
		c := j.stored(t)
		change(&c)
		text, err := json.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(j.checkpoint, text, 0o600))
	}
	write := func(t *testing.T, j *journey, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(j.checkpoint, []byte(text), 0o600))
	}
	killed := newJourney(t, one, false)
	at, _ := killed.stop(t, 0, syscall.SIGKILL)
	t.Run("unchanged", func(t *testing.T) {
		j := newJourney(t, one, false)
		j.continues(t, killed)
		served, result, out := j.finish(t)
		require.Equal(t, importer.Imported, result.Reason, out)
		require.LessOrEqual(t, served, int64(len(one))-at.Offset+mib, out)
		j.requireDisk(t, one)
	})
	for name, c := range map[string]struct {
		change func(t *testing.T, j *journey)
		says   string
		want   []byte
		device bool
		flags  []string
	}{
		"new revision": {says: "its ETag is", want: other, change: func(_ *testing.T, j *journey) { j.dam.serves(other, `"two"`) }},
		"new revision on a device": {says: "its ETag is", want: other, device: true, change: func(_ *testing.T, j *journey) {
			j.dam.serves(other, `"two"`)
		}},
		"new length": {says: "its length is", want: one[:40*mib], change: func(_ *testing.T, j *journey) { j.dam.serves(one[:40*mib], `"one"`) }},
		"weak revision": {want: other, change: func(_ *testing.T, j *journey) {
			j.dam.serves(other, `W/"one"`)
		}},
		"other size": {says: "its size of the disk is", want: one, change: func(_ *testing.T, j *journey) { j.flags = append(j.flags, "--target-size=60Mi") }},
		"other checksum": {says: "its checksum is", want: one, change: func(_ *testing.T, j *journey) {
			j.flags = append(j.flags, "--checksum=sha256:"+sum(one))
		}},
		"no file": {says: "no such file", want: one, change: func(t *testing.T, j *journey) { require.NoError(t, os.Remove(j.unfinished())) }},
		"file of another length": {says: "bytes in place of", want: one, change: func(t *testing.T, j *journey) {
			require.NoError(t, os.Truncate(j.unfinished(), 40*mib))
		}},
		"file that was emptied":    {says: "holds something else", want: one, change: func(t *testing.T, j *journey) { j.overwrite(t, make([]byte, len(one))) }},
		"file with another disk":   {says: "holds something else", want: one, change: func(t *testing.T, j *journey) { j.overwrite(t, other) }},
		"device that was emptied":  {says: "holds something else", want: one, device: true, change: func(t *testing.T, j *journey) { j.overwrite(t, make([]byte, len(one))) }},
		"device with another disk": {says: "holds something else", want: one, device: true, change: func(t *testing.T, j *journey) { j.overwrite(t, other) }},
		"empty":                    {want: one, change: func(t *testing.T, j *journey) { write(t, j, "") }},
		"damaged":                  {says: "reading checkpoint", want: one, change: func(t *testing.T, j *journey) { write(t, j, `{"version":`) }},
		"null, as in the log":      {says: "its version is", want: one, change: func(t *testing.T, j *journey) { write(t, j, "null") }},
		"a directory": {says: "no file of a checkpoint", want: one, change: func(t *testing.T, j *journey) {
			require.NoError(t, os.Remove(j.checkpoint))
			require.NoError(t, os.Mkdir(j.checkpoint, 0o755))
		}},
		"a pipe": {says: "no file of a checkpoint", want: one, change: func(t *testing.T, j *journey) {
			require.NoError(t, os.Remove(j.checkpoint))
			require.NoError(t, unix.Mkfifo(j.checkpoint, 0o600))
		}},
		"endless":                      {says: "no file of a checkpoint", want: one, change: func(t *testing.T, j *journey) { require.NoError(t, os.Truncate(j.checkpoint, 1<<40)) }},
		"of another version":           {says: "its version is", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Version++ }) }},
		"of another Go":                {says: "its version of Go is", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Runtime = "go1.1" }) }},
		"that promises a little more":  {says: "damaged", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Offset += 4 * mib }) }},
		"that promises all":            {says: "damaged", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Offset = c.Length }) }},
		"that promises more than all":  {says: "contradicts", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Offset = 1 << 62 }) }},
		"negative":                     {says: "contradicts", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Offset = -1 }) }},
		"with a slice too many":        {says: "contradicts", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Slice = 1 }) }},
		"of all slices":                {says: "number of slices", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Slice, c.Slices = 1, 2 }) }},
		"without a witness":            {says: "contradicts", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Witness = nil }) }},
		"with a witness far away":      {says: "contradicts", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Witness[0] = 1 << 62 }) }},
		"with a witness between":       {says: "contradicts", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Witness[0]++ }) }},
		"with a checksum's state":      {says: "no usable state", want: one, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Hashes = [][]byte{{1}} }) }},
		"without its checksum's state": {says: "no usable state", want: one, flags: []string{"--checksum=sha256:" + sum(one)}, change: func(t *testing.T, j *journey) { edit(t, j, func(c *importer.Checkpoint) { c.Hashes = nil }) }},
		"with another checksum's state": {says: "damaged", want: one, flags: []string{"--checksum=sha256:" + sum(one)}, change: func(t *testing.T, j *journey) {
			edit(t, j, func(c *importer.Checkpoint) { c.Hashes[0] = c.Hashes[0][:7] })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJourney(t, one, c.device, c.flags...)
			if c.device || c.flags != nil {
				j.stop(t, 0, syscall.SIGKILL)
			} else {
				j.continues(t, killed)
			}
			c.change(t, j)
			_, result, out := j.finish(t)
			require.Equal(t, importer.Imported, result.Reason, out)
			require.Equal(t, c.says != "", strings.Contains(out, "starting at the first byte"), out)
			require.Contains(t, out, c.says)
			j.requireDisk(t, c.want)
			if info, err := os.Lstat(j.checkpoint); err == nil {
				require.True(t, info.IsDir(), "the checkpoint is left")
			}
		})
	}
}

// TestCheckpointThatCameBack loses what dropped the checkpoint: a power cut, or a log that nobody
// read. The target was emptied in between, for another revision or a run without a checkpoint.
func TestCheckpointThatCameBack(t *testing.T) {
	one, other := large(1), large(2)
	for _, device := range []bool{false, true} {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("device %t, whole %t", device, whole), func(t *testing.T) {
				j := newJourney(t, one, device)
				j.stop(t, 0, syscall.SIGKILL)
				stale, err := os.ReadFile(j.checkpoint)
				require.NoError(t, err)

				j.dam.serves(other, `"two"`)
				if whole {
					_, result, out := j.finish(t)
					require.Equal(t, importer.Imported, result.Reason, out)
				} else {
					// Killed before it has a checkpoint of its own: the old one is gone already.
					j.dam.open(mib)
					var out bytes.Buffer
					command := j.command(t, &out)
					require.NoError(t, command.Start())
					require.Eventually(t, func() bool { _, err := os.Stat(j.checkpoint); return os.IsNotExist(err) }, time.Minute, 10*time.Millisecond)
					require.Eventually(t, func() bool { return j.dam.passed() > 600<<10 }, time.Minute, 10*time.Millisecond)
					require.NoError(t, command.Process.Kill())
					require.Error(t, command.Wait())
				}
				require.NoError(t, os.WriteFile(j.checkpoint, stale, 0o600))
				j.dam.serves(one, `"one"`)
				_, result, out := j.finish(t)
				require.Equal(t, importer.Imported, result.Reason, out)
				require.Contains(t, out, "starting at the first byte")
				j.requireDisk(t, one)
				j.requireNothingLeft(t)
			})
		}
	}
}

// TestTablesThatChanged serves another image under the same ETag: a server that lies.
func TestTablesThatChanged(t *testing.T) {
	if !haveQemu() {
		t.Skip("SKIPPED: needs qemu-img (Debian: qemu-utils)")
	}
	one, other := large(1), large(1)
	// The same length of data, a part of it in a hole.
	copy(other[39*mib+mib/2:40*mib], one[38*mib:])
	clear(other[38*mib : 38*mib+mib/2])
	j := newJourney(t, asQcow2(t, one), false)
	j.stop(t, 0, syscall.SIGKILL)
	image := asQcow2(t, other)
	require.Equal(t, len(j.dam.image), len(image))
	j.dam.serves(image, `"one"`)
	_, result, out := j.finish(t)
	require.Equal(t, importer.Imported, result.Reason, out)
	require.Contains(t, out, "its tables is")
	j.requireDisk(t, other)
}

func TestTerminatedImport(t *testing.T) {
	disk := large(1)
	for _, device := range []bool{false, true} {
		t.Run(fmt.Sprintf("device %t", device), func(t *testing.T) {
			j := newJourney(t, disk, device)
			c, out := j.stop(t, 0, syscall.SIGTERM)
			require.Contains(t, out, `"reason":"Interrupted","message":"the importer was told to stop: a run with the same --checkpoint can continue"`)
			require.FileExists(t, j.checkpoint)
			served, result, out := j.finish(t)
			require.Equal(t, importer.Imported, result.Reason, out)
			require.LessOrEqual(t, served, int64(len(disk))-c.Offset+mib)
			j.requireDisk(t, disk)
			j.requireNothingLeft(t)
		})
	}
	t.Run("before the first checkpoint", func(t *testing.T) {
		j := newJourney(t, disk, false)
		j.dam.open(mib)
		var out bytes.Buffer
		command := j.command(t, &out)
		require.NoError(t, command.Start())
		require.Eventually(t, func() bool { _, err := os.Stat(j.unfinished()); return err == nil }, time.Minute, 10*time.Millisecond)
		require.NoError(t, command.Process.Signal(syscall.SIGTERM))
		require.Error(t, command.Wait())
		require.Contains(t, out.String(), "nothing usable is on the target")
		j.requireNothingLeft(t)
	})
}

// TestFinalFailureLeavesNoCheckpoint goes on from a checkpoint to a checksum that is wrong.
func TestFinalFailureLeavesNoCheckpoint(t *testing.T) {
	disk := large(1)
	for _, device := range []bool{false, true} {
		t.Run(fmt.Sprintf("device %t", device), func(t *testing.T) {
			j := newJourney(t, disk, device, "--checksum=sha256:"+strings.Repeat("0", 64))
			c, _ := j.stop(t, 0, syscall.SIGKILL)
			served, result, out := j.finish(t)
			require.Equal(t, importer.ChecksumMismatch, result.Reason, out)
			require.Contains(t, out, sum(disk), "the hash goes on where it was")
			require.LessOrEqual(t, served, int64(len(disk))-c.Offset+mib)
			j.requireNothingLeft(t)
		})
	}
}

// TestCheckpointThatCannotBeWritten reads it from a mounted ConfigMap: the log is all there is.
func TestCheckpointThatCannotBeWritten(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount file systems")
	}
	disk := large(1)
	j := newJourney(t, disk, false)
	c, _ := j.stop(t, 0, syscall.SIGKILL)
	text, err := os.ReadFile(j.checkpoint)
	require.NoError(t, err)
	mounted := t.TempDir()
	require.NoError(t, unix.Mount("gild-test", mounted, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mounted, 0)) })
	j.checkpoint = filepath.Join(mounted, "checkpoint")
	require.NoError(t, os.WriteFile(j.checkpoint, text, 0o600))
	require.NoError(t, unix.Mount("", mounted, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	var out bytes.Buffer
	j.dam.open(enough)
	command := j.command(t, &out)
	require.NoError(t, command.Start())
	require.Eventually(t, func() bool { return j.dam.passed() > 6*mib }, time.Minute, 10*time.Millisecond)
	require.NoError(t, command.Process.Signal(syscall.SIGTERM))
	require.Error(t, command.Wait())
	require.NotContains(t, out.String(), "starting at the first byte")
	require.NotContains(t, out.String(), "storing checkpoint")

	served, result, printed := j.finish(t)
	require.Equal(t, importer.Imported, result.Reason, printed)
	require.Contains(t, printed, fmt.Sprintf(`{"checkpoint":{"version":%d,`, c.Version))
	require.LessOrEqual(t, served, int64(len(disk))-c.Offset+mib)
	j.requireDisk(t, disk)

	// In a place that is not there nobody expects it to fail.
	j.checkpoint = filepath.Join(t.TempDir(), "none", "checkpoint")
	_, result, printed = j.finish(t)
	require.Equal(t, importer.Imported, result.Reason, printed)
	require.Contains(t, printed, "storing checkpoint")
}
