package server

import (
	"context"
	"errors"
	"io"
	"time"
)

// errCut ends a body on purpose.
var errCut = errors.New("the connection is cut on purpose")

// chunk is the most that one read returns, so that a rate is kept evenly.
const chunk = 32 << 10

// content reads a published file for one answer, with the file's faults. It does not
// outlive the handler that made it, whose request ends its waits.
type content struct {
	io.ReaderAt
	size   int64
	offset int64

	file *published
	done <-chan struct{}
	// left is how many bytes may still be read before the cut; -1 means all.
	left int64
	// cut is set once the cut has come.
	cut bool
}

var _ io.ReadSeeker = (*content)(nil)

// Seek moves to an offset, as io.Seeker.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.offset
	case io.SeekEnd:
		offset += c.size
	}
	c.offset = offset
	return offset, nil
}

// Read reads at the current offset, no faster and no further than the file allows.
func (c *content) Read(p []byte) (int, error) {
	if c.offset >= c.size {
		return 0, io.EOF
	}
	p = p[:min(len(p), chunk)]
	if c.left == 0 {
		if c.cut = c.file.flow.cut(c.file.CutTimes); c.cut {
			return 0, errCut
		}
		c.left = -1
	}
	if c.left > 0 {
		p = p[:min(int64(len(p)), c.left)]
	}
	p, err := c.turn(p)
	if err != nil {
		return 0, err
	}
	n, err := c.ReadAt(p, c.offset)
	c.offset += int64(n)
	if c.left > 0 {
		c.left -= int64(n)
	}
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return n, err
}

// turn waits until the file lets more bytes go, and returns the part of p that they fill.
func (c *content) turn(p []byte) ([]byte, error) {
	if limit := c.file.HoldAfter; limit > 0 {
		n := c.file.flow.take(int64(len(p)), limit)
		if n == 0 {
			return p, c.wait(nil)
		}
		p = p[:n]
	}
	rate := c.file.BytesPerSecond
	if rate <= 0 {
		return p, nil
	}
	timer := time.NewTimer(time.Until(c.file.flow.due(int64(len(p)), rate, time.Now())))
	defer timer.Stop()
	return p, c.wait(timer.C)
}

// wait returns when timer fires or the file is published again: from then on the
// answer that is under way is served without delay.
func (c *content) wait(timer <-chan time.Time) error {
	select {
	case <-timer:
		return nil
	case <-c.file.replaced:
		return nil
	case <-c.done:
		return context.Canceled
	}
}
