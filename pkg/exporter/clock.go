package exporter

import "time"

// System is the real clock.
func System() Parts {
	return Parts{Now: time.Now, AfterFunc: func(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }}
}
