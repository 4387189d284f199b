package corpus

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// WatchMemory looks at the high-water mark of the resident memory of a process, without its
// children, until the returned function is called, which returns the last one seen, in bytes.
func WatchMemory(pid int) func() int64 {
	stop, last := make(chan struct{}), make(chan int64)
	go func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		var peak int64
		for {
			peak = max(peak, highWater(pid))
			select {
			case <-stop:
				last <- peak
				return
			case <-ticker.C:
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-last
	}
}

func highWater(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has ended
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(after, "%d kB", &kib); err != nil {
		return 0 // it is ending
	}
	return kib << 10
}
