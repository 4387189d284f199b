package poller

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
)

func jobAt(host string, n int) job {
	return job{host: host, key: types.NamespacedName{Name: fmt.Sprintf("%s-%d", host, n)}}
}

func TestQueueIsFair(t *testing.T) {
	q := newQueue(2)
	for n := range 3 {
		q.push(jobAt("busy", n))
	}
	q.push(jobAt("other", 0))
	var order []string
	var jobs []job
	for {
		j, ok, _ := q.take()
		if !ok {
			break
		}
		order = append(order, j.key.Name)
		jobs = append(jobs, j)
	}
	require.Equal(t, []string{"busy-0", "other-0", "busy-1"}, order, "hosts take turns, and no host gets more than two")
	q.done(jobs[0])
	j, ok, _ := q.take()
	require.True(t, ok)
	require.Equal(t, "busy-2", j.key.Name)
	for _, j := range append(jobs[1:], j) {
		q.done(j)
	}
	require.Empty(t, q.running)
	require.Empty(t, q.waiting)
	require.Empty(t, q.turn)
}

// TestQueueBounds: 10,000 polls of 100 hosts, one of which has half of them.
func TestQueueBounds(t *testing.T) {
	const perHost, workers, polls = 4, 32, 10000
	q := newQueue(perHost)
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	running, most, all, seen := map[string]int{}, 0, 0, map[string]bool{}
	total := 0
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				j, ok := q.next(ctx)
				if !ok {
					return
				}
				mu.Lock()
				running[j.host]++
				total++
				most, all = max(most, running[j.host]), max(all, total)
				assert.False(t, seen[j.key.Name], "handed out twice")
				seen[j.key.Name] = true
				mu.Unlock()

				mu.Lock()
				running[j.host]--
				total--
				if len(seen) == polls {
					stop()
				}
				mu.Unlock()
				q.done(j)
			}
		})
	}
	for n := range polls {
		host := "busy"
		if n%2 == 0 {
			host = fmt.Sprintf("host-%d", n%99)
		}
		q.push(jobAt(host, n))
	}
	group.Wait()
	stop()
	require.Len(t, seen, polls)
	require.LessOrEqual(t, most, perHost)
	require.LessOrEqual(t, all, workers)
}

func TestQueueEnds(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, ok := newQueue(1).next(ctx)
	require.False(t, ok)
}
