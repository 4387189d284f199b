package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// errCut ends a body on purpose.
var errCut = errors.New("the connection is cut on purpose")

// chunk is the most that one write hands on, so that a rate is kept evenly.
const chunk = 32 << 10

// writer hands an answer to the connection with the faults of its body, and notes it.
type writer struct {
	http.ResponseWriter
	log   *requestLog
	entry *Request
	done  <-chan struct{}

	// cut is how many bytes may still go before the connection ends, if cutter says so then; -1 means all.
	cut    int64
	cutter *armed
	flip   int64
	offset int64
	slow   []*armed
}

func (w *writer) add(one *armed) {
	if one.CutAfter > 0 {
		w.cut, w.cutter = one.CutAfter, one
	}
	if one.FlipAt > 0 {
		w.flip = one.FlipAt
	}
	if one.HoldAfter > 0 || one.BytesPerSecond > 0 {
		w.slow = append(w.slow, one)
	}
}

// WriteHeader notes the status, and where in the blob the body begins.
func (w *writer) WriteHeader(status int) {
	if status == http.StatusPartialContent {
		// A header that cannot be read leaves the offset at 0.
		_, _ = fmt.Sscanf(w.Header().Get("Content-Range"), "bytes %d-", &w.offset)
	}
	w.log.note(func() { w.entry.Status = status })
	w.ResponseWriter.WriteHeader(status)
}

// Write hands p on, no faster and no further than the faults allow.
func (w *writer) Write(p []byte) (int, error) {
	if w.cut < 0 && w.flip == 0 && len(w.slow) == 0 {
		return w.send(p)
	}
	sent := 0
	for sent < len(p) {
		part, err := w.turn(p[sent:min(sent+chunk, len(p))])
		if err != nil {
			return sent, err
		}
		n, err := w.send(w.flipped(part))
		sent += n
		w.offset += int64(n)
		if err != nil {
			return sent, err
		}
		if w.cut >= 0 {
			w.cut -= int64(n)
		}
		switch {
		case w.cut != 0:
		case w.cutter.count():
			w.hangUp()
			return sent, errCut
		default:
			w.cut = -1
		}
	}
	return sent, nil
}

func (w *writer) send(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.log.note(func() {
		if w.entry.Status == 0 {
			w.entry.Status = http.StatusOK
		}
		w.entry.Bytes += int64(n)
	})
	return n, err
}

// turn waits until more bytes may go, and returns the part of p that they fill.
func (w *writer) turn(p []byte) ([]byte, error) {
	if w.cut >= 0 {
		p = p[:min(int64(len(p)), w.cut)]
	}
	for _, one := range w.slow {
		if one.HoldAfter > 0 {
			n := one.take(int64(len(p)))
			if n == 0 {
				if err := w.wait(one, nil); err != nil {
					return nil, err
				}
				continue
			}
			p = p[:n]
		}
		if one.BytesPerSecond > 0 {
			timer := time.NewTimer(time.Until(one.due(int64(len(p)), time.Now())))
			err := w.wait(one, timer.C)
			timer.Stop()
			if err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// wait returns when timer fires or the faults are replaced.
func (w *writer) wait(one *armed, timer <-chan time.Time) error {
	select {
	case <-timer:
		return nil
	case <-one.replaced:
		return nil
	case <-w.done:
		return context.Canceled
	}
}

// flipped is p with the one byte changed, if it is in p.
func (w *writer) flipped(p []byte) []byte {
	at := w.flip - 1 - w.offset
	if w.flip == 0 || at < 0 || at >= int64(len(p)) {
		return p
	}
	changed := append([]byte(nil), p...)
	changed[at] ^= 0xff
	return changed
}

// hangUp ends the connection of a body that is not complete.
func (w *writer) hangUp() {
	control := http.NewResponseController(w.ResponseWriter)
	// What was written shall arrive; the connection may be gone already.
	_ = control.Flush()
	if connection, _, err := control.Hijack(); err == nil {
		_ = connection.Close()
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
