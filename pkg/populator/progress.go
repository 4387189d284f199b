package populator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/importer"
)

const (
	// progressInterval is how often progress is read and, at most, written.
	progressInterval = 5 * time.Second
	// logTimeout bounds one read of a pod's log: a node that does not answer must not hold up the rest.
	logTimeout = 3 * time.Second
	// logBytes bounds what is read of it; a progress line has less than 1 KiB.
	logBytes = 8 << 10
)

// pace spaces the status writes of each import progressInterval apart.
type pace struct {
	mu   sync.Mutex
	last map[types.UID]time.Time
}

func newPace() *pace { return &pace{last: map[types.UID]time.Time{}} }

// wait returns how long to wait before the next write, 0 when it may be made now; then it counts as made.
func (p *pace) wait(uid types.UID, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := progressInterval - now.Sub(p.last[uid]); left > 0 {
		return left
	}
	p.last[uid] = now
	return 0
}

// forget drops an import that has ended.
func (p *pace) forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.last, uid)
}

// LogTail returns the end of a pod's log. It asks the API server, so the importer
// pod needs neither a token nor a port.
type LogTail func(ctx context.Context, namespace, pod string) ([]byte, error)

// NewLogTail reads logs with a client.
func NewLogTail(client kubernetes.Interface) LogTail {
	return func(ctx context.Context, namespace, pod string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, logTimeout)
		defer cancel()
		stream, err := client.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{
			Container: importerContainer, TailLines: ptr.To[int64](4), LimitBytes: ptr.To[int64](logBytes),
		}).Stream(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the importer's log: %w", err)
		}
		defer stream.Close()
		return io.ReadAll(io.LimitReader(stream, logBytes))
	}
}

// parseProgress finds the newest progress line in the end of a log.
func parseProgress(log []byte) (importer.Progress, bool) {
	lines := bytes.Split(log, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		if p, err := importer.ParseProgress(lines[i]); err == nil {
			return p, true
		}
	}
	return importer.Progress{}, false
}

// progressStatus is a progress line as the status shows it. 100% is kept for the end: a
// disk is not there before it is synced and verified.
func progressStatus(p importer.Progress) *v1alpha1.ImportProgress {
	status := &v1alpha1.ImportProgress{TransferredBytes: p.TransferredBytes, WrittenBytes: p.WrittenBytes}
	if p.TotalBytes != nil && *p.TotalBytes > 0 {
		status.TotalBytes = *p.TotalBytes
		status.Percent = fmt.Sprintf("%.0f%%", min(99, 100*float64(p.TransferredBytes)/float64(*p.TotalBytes)))
	}
	if p.BytesPerSecond > 0 {
		status.Rate = formatBytes(p.BytesPerSecond) + "/s"
	}
	return status
}

// formatBytes writes a number of bytes with three figures and a binary unit.
func formatBytes(n int64) string {
	value, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	if unit == "B" || value >= 100 {
		return fmt.Sprintf("%.0f %s", value, unit)
	}
	return fmt.Sprintf("%.3g %s", value, unit)
}
