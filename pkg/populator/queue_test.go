package populator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

func TestQueue(t *testing.T) {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	q := newQueue(3, 2)

	_, ok := q.enter("a", "one", at(1), nil)
	require.True(t, ok)
	_, ok = q.enter("b", "one", at(2), nil)
	require.True(t, ok)
	why, ok := q.enter("c", "one", at(3), nil)
	require.False(t, ok)
	require.Contains(t, why, "--max-imports-per-host")
	_, ok = q.enter("d", "two", at(4), nil)
	require.True(t, ok, "a queue for one host does not hold up another")
	why, ok = q.enter("e", "three", at(5), nil)
	require.False(t, ok)
	require.Contains(t, why, "--max-imports ")

	q.leave("a")
	why, ok = q.enter("e", "three", at(5), nil)
	require.False(t, ok, "the older one goes first")
	require.Contains(t, why, "older")
	_, ok = q.enter("c", "one", at(3), nil)
	require.True(t, ok)
	_, ok = q.enter("c", "one", at(3), nil)
	require.True(t, ok, "a place is kept")

	q.leave("d")
	q.leave("e")
	_, ok = q.enter("f", "three", at(6), nil)
	require.True(t, ok, "one that has left the line holds nobody up")
}

func TestQueueCountsTheJobsThatARestartFinds(t *testing.T) {
	q := newQueue(2, 1)
	jobs := map[types.UID]string{"running": "one"}
	_, ok := q.enter("new", "one", time.Time{}, jobs)
	require.False(t, ok, "its host is taken")
	_, ok = q.enter("other", "two", time.Time{}, jobs)
	require.True(t, ok)
	q.leave("new")
	_, ok = q.enter("third", "three", time.Time{}, jobs)
	require.False(t, ok)
	_, ok = q.enter("third", "three", time.Time{}, nil)
	require.True(t, ok, "a Job that has gone frees its place")
}
