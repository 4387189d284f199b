package populator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "vms", Name: name}
}

func TestQueue(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	q := newQueue(3, 2)
	enter := func(name, host string, second int) (string, bool) {
		return q.enter(named(name), host, now.Add(time.Duration(second-60)*time.Second), now, nil)
	}
	_, ok := enter("a", "one", 1)
	require.True(t, ok)
	_, ok = enter("b", "one", 2)
	require.True(t, ok)
	why, ok := enter("c", "one", 3)
	require.False(t, ok)
	require.Contains(t, why, "--max-imports-per-host")
	_, ok = enter("d", "two", 4)
	require.True(t, ok, "a queue for one host does not hold up another")
	why, ok = enter("e", "three", 5)
	require.False(t, ok)
	require.Contains(t, why, "--max-imports ")

	q.leave(named("a"))
	why, ok = enter("e", "three", 5)
	require.False(t, ok, "the older one goes first")
	require.Contains(t, why, "older")
	_, ok = enter("c", "one", 3)
	require.True(t, ok)
	_, ok = enter("c", "one", 3)
	require.True(t, ok, "a place is kept")

	q.leave(named("d"))
	q.leave(named("e"))
	_, ok = enter("f", "three", 6)
	require.True(t, ok, "one that has left the line holds nobody up")
}

func TestQueueCountsThePodsThatARestartFinds(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	q := newQueue(2, 1)
	pods := map[types.NamespacedName]string{named("running"): "one"}
	_, ok := q.enter(named("new"), "one", now, now, pods)
	require.False(t, ok, "its host is taken")
	_, ok = q.enter(named("other"), "two", now, now, pods)
	require.True(t, ok)
	q.leave(named("new"))
	_, ok = q.enter(named("third"), "three", now, now, pods)
	require.False(t, ok)
	_, ok = q.enter(named("third"), "three", now, now, nil)
	require.True(t, ok, "a pod that has gone frees its place")
}

func TestQueueForgetsAnImportThatGetsNoNode(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	q := newQueue(1, 1)
	_, ok := q.enter(named("stuck"), "one", now, now, nil)
	require.True(t, ok)
	_, ok = q.enter(named("next"), "one", now, now.Add(reservation-time.Second), nil)
	require.False(t, ok)
	_, ok = q.enter(named("next"), "one", now, now.Add(reservation), nil)
	require.True(t, ok)
}

func TestQueueKeepsThePlaceOfOneThatPrepares(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	q := newQueue(1, 1)
	_, ok := q.enter(named("prepares"), "one", now, now, nil)
	require.True(t, ok)
	q.keep(named("prepares"), now.Add(reservation/2))
	_, ok = q.enter(named("next"), "one", now, now.Add(reservation), nil)
	require.False(t, ok)
	q.leave(named("prepares"))
	q.keep(named("prepares"), now.Add(reservation))
	_, ok = q.enter(named("next"), "one", now, now.Add(reservation), nil)
	require.True(t, ok, "a place that was left is not kept")
}
