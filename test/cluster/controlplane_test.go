package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyOneControlPlane(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockNow(name)
	require.NoError(t, err)
	_, err = lockNow(name)
	require.ErrorContains(t, err, "another control plane runs")
	unlock()
	unlock, err = lockNow(name)
	require.NoError(t, err)
	unlock()
}

func TestControlPlaneListensOnTheLoopbackAlone(t *testing.T) {
	c := newCluster(folders{cluster: t.TempDir()}, t.Output())
	for _, argument := range slices.Concat(c.etcd("127.0.0.1:1", "127.0.0.1:2").args, c.apiServer("127.0.0.1:1", loopback, "3").args) {
		require.NotContains(t, argument, nodeIP)
	}
}
