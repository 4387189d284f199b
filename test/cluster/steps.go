package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// steps prints one line for each finished step and the time it took.
type steps struct {
	mutex sync.Mutex
	out   io.Writer
}

// do runs a step. The detail it returns is printed beside its name.
func (s *steps) do(name string, step func() (detail string, err error)) error {
	start := time.Now()
	detail, err := step()
	if err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	_, err = fmt.Fprintf(s.out, "%-14s %-52s %6.1f s\n", name, detail, time.Since(start).Seconds())
	return err
}
