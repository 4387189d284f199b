package daemon

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// eventually is how long a test waits for a process of the machine.
const eventually = 20 * time.Second

func TestStartAndStop(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	require.False(t, folder.Alive("sleeper"))
	require.NoError(t, folder.Start(Command{Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "echo $GREETING; exec sleep 600"}, Env: []string{"GREETING=hello"}}))
	pid, alive := folder.PID("sleeper")
	require.True(t, alive)
	require.Error(t, folder.Start(Command{Name: "sleeper", Path: "/bin/true"}), "a running daemon is not started twice")
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(folder.Log("sleeper"))
		return err == nil && string(log) == "hello\n"
	}, eventually, poll)

	require.NoError(t, folder.Stop(t.Context(), "sleeper", eventually))
	require.False(t, folder.owns(pid))
	require.NoError(t, folder.Stop(t.Context(), "sleeper", eventually), "stopping twice is no error")
}

func TestStartReturnsOnceTheDaemonIsAlive(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	for i := range 10 { // the kernel is seldom slow enough to be noticed
		name := strconv.Itoa(i)
		require.NoError(t, folder.Start(Command{Name: name, Path: "/bin/sleep", Args: []string{"600"}}))
		require.True(t, folder.Alive(name))
	}
	require.NoError(t, folder.StopAll(t.Context(), eventually))
}

func TestStartOfWhatEndsAtOnce(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	require.NoError(t, folder.Start(Command{Name: "brief", Path: "/bin/true"}))
	require.Eventually(t, func() bool { return !folder.Alive("brief") }, eventually, poll)
	require.Error(t, folder.Start(Command{Name: "missing", Path: "/no/such/program"}))
}

func TestStopKillsWhatIgnoresTheRequest(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	require.NoError(t, folder.Start(Command{Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo ready; while :; do sleep 600; done"}}))
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(folder.Log("stubborn"))
		return err == nil && string(log) == "ready\n"
	}, eventually, poll)
	require.NoError(t, folder.Stop(t.Context(), "stubborn", poll))
	require.False(t, folder.Alive("stubborn"))
	require.NoError(t, folder.StopAll(t.Context(), poll), "its child is left and must end")
}

func TestStopAllFindsChildrenAndSparesOthers(t *testing.T) {
	mine, other := Folder{Path: t.TempDir()}, Folder{Path: t.TempDir()}
	require.NoError(t, mine.Start(Command{Name: "parent", Path: "/bin/sh", Args: []string{"-c", "sleep 600 & echo $!; exec sleep 600"}}))
	require.NoError(t, other.Start(Command{Name: "parent", Path: "/bin/sleep", Args: []string{"600"}}))
	t.Cleanup(func() { require.NoError(t, other.StopAll(context.WithoutCancel(t.Context()), eventually)) })
	var child int
	require.Eventually(t, func() bool {
		log, err := os.ReadFile(mine.Log("parent"))
		if err != nil || len(log) == 0 {
			return false
		}
		child, err = strconv.Atoi(string(log[:len(log)-1]))
		return err == nil && mine.owns(child)
	}, eventually, poll)

	require.NoError(t, mine.StopAll(t.Context(), eventually))
	require.False(t, mine.Alive("parent"))
	require.False(t, mine.owns(child))
	require.True(t, other.Alive("parent"))
}

func TestPIDOfAnotherProgramIsNotAlive(t *testing.T) {
	folder := Folder{Path: t.TempDir()}
	require.NoError(t, os.MkdirAll(folder.run(), 0o755))
	for name, content := range map[string]string{"self": strconv.Itoa(os.Getpid()), "init": "1", "words": "not a number"} {
		require.NoError(t, os.WriteFile(folder.pidFile(name), []byte(content), 0o644))
		require.False(t, folder.Alive(name), name)
	}
}
