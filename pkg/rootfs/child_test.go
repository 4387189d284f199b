package rootfs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	childDir  = "ROOTFS_TEST_DIR"
	childStop = "ROOTFS_TEST_STOP"
)

// writeAsChild is what a child does: it writes everything, and stops for ever before one of the
// entries if it is told so.
func writeAsChild(ctx context.Context, dir string) int {
	stop, err := strconv.Atoi(os.Getenv(childStop))
	if err != nil {
		stop = -1
	}
	entries := func(yield func(Entry, error) bool) {
		n := 0
		for _, i := range everything() {
			if n == stop {
				say("stopped")
				_, _ = io.Copy(io.Discard, os.Stdin)
			}
			n++
			if !yield(entry(i), nil) {
				return
			}
		}
	}
	err = Files(ctx, iter.Seq2[Entry, error](entries), dir, Options{Notice: say})
	if err != nil {
		say(err.Error())
		return 1
	}
	return 0
}

// say tells the parent.
func say(text string) { _, _ = fmt.Fprintln(os.Stdout, text) }

// child is this program with the identity that the importer has in a pod: user 107, and a group
// that the volume belongs to. A user other than root is just itself.
func child(t *testing.T, dir string, stop int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	// The build's own directory is closed for others.
	program := filepath.Join(openDir(t), "child")
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, content, 0o700))
	require.NoError(t, os.Chmod(program, 0o755))
	c := exec.CommandContext(t.Context(), program)
	c.Env = []string{childDir + "=" + dir, childStop + "=" + strconv.Itoa(stop)}
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 107, Gid: 107, Groups: []uint32{volumeGroup}}}
	}
	return c
}

// openDir is a directory that other users reach.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

const volumeGroup = 4711

// groupVolume is a directory as the kubelet hands it to a pod with an fsGroup.
func groupVolume(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(dir, 0, volumeGroup))
	}
	require.NoError(t, os.Chmod(dir, 0o775|os.ModeSetgid))
	return dir
}

// killedAt runs a child and kills it before one of its entries.
func killedAt(t *testing.T, dir string, stop int) {
	t.Helper()
	c := child(t, dir, stop)
	_, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "stopped\n", line)
	require.NoError(t, c.Process.Kill())
	require.Error(t, c.Wait())
}
