package target

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// sample is a disk with runs of data and holes of 1 to 32 blocks, and an end within a block.
func sample(t *testing.T, size int) []byte {
	t.Helper()
	disk := make([]byte, size)
	// The race detector does not slow down this assembly, unlike a generator in Go.
	key, err := aes.NewCipher([]byte("sixteen bytes 16"))
	require.NoError(t, err)
	cipher.NewCTR(key, make([]byte, aes.BlockSize)).XORKeyStream(disk, disk)
	r := rand.New(rand.NewPCG(1, 1))
	for off := 0; off < size; {
		hole := min(off+block*(1+r.IntN(32)), size)
		off = min(hole+block*(1+r.IntN(32)), size)
		clear(disk[hole:off])
	}
	return disk
}

// fill writes disk in chunks as the importer does.
func fill(t *testing.T, target *Target, disk []byte, chunk int) {
	t.Helper()
	for off := 0; off < len(disk); off += chunk {
		part := disk[off:min(off+chunk, len(disk))]
		n, err := target.WriteAt(t.Context(), part, int64(off))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
}

func openPrepared(t *testing.T, path string) *Target {
	t.Helper()
	target, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, target.Discard()) })
	require.NoError(t, target.Prepare(t.Context(), 0, block))
	return target
}

func reason(t *testing.T, err error) string {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	return e.Reason()
}

// needRoot skips what cannot be tested without loop devices and mounts.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for loop devices and mounts")
	}
}

func runTool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

// undo runs a command at the end of the test, whose context is over by then.
func undo(t *testing.T, name string, args ...string) {
	t.Cleanup(func() {
		out, err := exec.Command(name, args...).CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, out)
	})
}

// loop makes a block device over a file of size bytes below dir.
func loop(t *testing.T, dir string, size int64, args ...string) string {
	t.Helper()
	backing := filepath.Join(dir, "backing")
	f, err := os.Create(backing)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	device := runTool(t, "losetup", append([]string{"-f", "--show", backing}, args...)...)
	undo(t, "losetup", "-d", device)
	return device
}

// tmpfs mounts a small file system in memory.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	runTool(t, "mount", "-t", "tmpfs", "-o", "size="+size, "gild-test", dir)
	undo(t, "umount", dir)
	return dir
}

// dirty fills a device with 0xff.
func dirty(t *testing.T, device string, size int64) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	require.NoError(t, err)
	old := bytes.Repeat([]byte{0xff}, mib)
	for off := int64(0); off < size; off += mib {
		_, err := f.WriteAt(old[:min(mib, size-off)], off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

// eachDirect reads what the device holds, not what the page cache says, in parts of up to 1 MiB.
func eachDirect(t *testing.T, device string, size int64, look func(part []byte, off int64)) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	buffer := alignedBuffer(mib, block)
	for off := int64(0); off < size; {
		n, err := f.ReadAt(buffer[:min(mib, size-off)], off)
		require.NoError(t, err)
		look(buffer[:n], off)
		off += int64(n)
	}
}

// kind is a sort of block device.
type kind struct {
	size    int64
	args    []string
	onTmpfs bool
	// worn devices cannot punch holes any more: a loop device on tmpfs loses it like this.
	worn bool
}

func kinds() map[string]kind {
	return map[string]kind{
		"on a file":            {size: 16 * mib},
		"4Kn":                  {size: 16 * mib, args: []string{"-b", "4096"}},
		"direct":               {size: 16 * mib, args: []string{"--direct-io=on"}},
		"odd size":             {size: 16*mib + 512},
		"in memory":            {size: 16 * mib, onTmpfs: true},
		"cannot punch":         {size: 16 * mib, onTmpfs: true, worn: true},
		"cannot punch, odd":    {size: 16*mib + 3*512, onTmpfs: true, worn: true},
		"cannot punch and 4Kn": {size: 16 * mib, args: []string{"-b", "4096"}, onTmpfs: true, worn: true},
	}
}

func (k kind) make(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if k.onTmpfs {
		dir = tmpfs(t, "24m")
	}
	device := loop(t, dir, k.size, k.args...)
	if k.worn {
		runTool(t, "blkdiscard", "-z", device)
	}
	return device
}

// requireDisk proves that a device of size bytes holds the disk and nothing else.
func requireDisk(t *testing.T, device string, size int64, disk []byte) {
	t.Helper()
	end := int64(len(disk))
	eachDirect(t, device, size, func(part []byte, off int64) {
		data := max(0, min(int64(len(part)), end-off))
		require.True(t, bytes.Equal(disk[min(off, end):][:data], part[:data]), "the disk is another one")
		require.True(t, isZero(part[data:]), "old bytes survive behind the disk")
	})
}

// scatter writes disk from many goroutines, in random order, in pieces of 1 to 64 granules.
func scatter(t *testing.T, target *Target, disk []byte, granule int, seed uint64) error {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 5))
	var pieces []extent
	for off := 0; off < len(disk); {
		end := min(off+granule*(1+random.IntN(64)), len(disk))
		pieces = append(pieces, extent{int64(off), int64(end)})
		off = end
	}
	random.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	return inParallel(8, len(pieces), func(n int) error {
		p := pieces[n]
		_, err := target.WriteAt(t.Context(), disk[p.off:p.end], p.off)
		return err
	})
}

// inParallel calls do for 0 to before count from several goroutines and returns all errors.
func inParallel(workers, count int, do func(n int) error) error {
	queue, errs := make(chan int), make([]error, workers)
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for n := range queue {
				errs[worker] = errors.Join(errs[worker], do(n))
			}
		})
	}
	for n := range count {
		queue <- n
	}
	close(queue)
	all.Wait()
	return errors.Join(errs...)
}
