package source

import (
	"context"
	"io"
	"sync"
)

// pieceSize is what one request of the window asks for, in bytes. Pieces end at its
// multiples.
const pieceSize = 2 << 20

// piece is a part of the image on its way through the window.
type piece struct {
	off  int64
	data []byte
	// filled bytes have come, taken ones were read.
	filled, taken int
}

// window reads an image ahead over several connections and gives its bytes in order. It holds
// two pieces for each connection, so that the next request goes out as soon as an answer has
// ended, and one that is read out. It holds no more: a slow reader stops it.
type window struct {
	// fetch fills p with the bytes from off on and tells arrived what is there.
	fetch func(ctx context.Context, p []byte, off int64, arrived func(n int)) error
	size  int64

	mu   sync.Mutex
	room *sync.Cond
	// pieces are in order, the first is being read; next is where the one after them begins.
	pieces []*piece
	next   int64
	// free are buffers to use again; made counts all.
	free    [][]byte
	most    int
	err     error
	arrived chan struct{}
	cancel  context.CancelFunc
	workers sync.WaitGroup
}

// start reads ahead from off over connections connections until the end, an error or stop.
func (w *window) start(ctx context.Context, off int64, connections int) {
	// It outlives the call of Read that starts it, whose context ends only that call.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.room = sync.NewCond(&w.mu)
	w.next, w.most, w.cancel = off, 2*connections+1, cancel
	w.arrived = make(chan struct{}, 1)
	for range connections {
		w.workers.Go(func() {
			for p := w.take(); p != nil; p = w.take() {
				w.fail(w.fetch(ctx, p.data, p.off, func(n int) { w.fill(p, n) }))
			}
		})
	}
}

// take waits for room and returns the next piece to fetch, nil after the last one.
func (w *window) take() *piece {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.next < w.size && len(w.pieces) == w.most {
		w.room.Wait()
	}
	if w.err != nil || w.next == w.size {
		return nil
	}
	length := min(pieceSize-w.next%pieceSize, w.size-w.next)
	p := &piece{off: w.next, data: w.buffer(length)}
	w.pieces = append(w.pieces, p)
	w.next += length
	return p
}

// buffer needs mu.
func (w *window) buffer(length int64) []byte {
	if last := len(w.free) - 1; last >= 0 {
		b := w.free[last]
		w.free = w.free[:last]
		return b[:length]
	}
	return make([]byte, length, min(pieceSize, w.size))
}

func (w *window) fill(p *piece, n int) {
	w.mu.Lock()
	p.filled += n
	first := len(w.pieces) > 0 && w.pieces[0] == p
	w.mu.Unlock()
	if first {
		w.notify()
	}
}

// notify wakes read.
func (w *window) notify() {
	select {
	case w.arrived <- struct{}{}:
	default:
	}
}

// fail ends the window with the first error.
func (w *window) fail(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
	w.cancel()
	w.room.Broadcast()
	w.notify()
}

// read copies the next bytes to p. Only one goroutine may call it.
func (w *window) read(ctx context.Context, p []byte) (int, error) {
	for {
		front, data, err := w.front()
		if err != nil {
			return 0, err
		}
		if len(data) > 0 {
			n := copy(p, data)
			w.pop(front, n)
			return n, nil
		}
		select {
		case <-w.arrived:
		case <-ctx.Done():
			w.fail(context.Cause(ctx))
		}
	}
}

// front returns what can be read of the first piece.
func (w *window) front() (*piece, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || len(w.pieces) == 0 {
		return nil, nil, w.err
	}
	p := w.pieces[0]
	return p, p.data[p.taken:p.filled], nil
}

// pop takes n bytes off the first piece, and its buffer back when it is empty.
func (w *window) pop(p *piece, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.taken += n
	if p.taken < len(p.data) {
		return
	}
	w.pieces = w.pieces[1:]
	w.free = append(w.free, p.data)
	w.room.Signal()
}

// stop ends the connections and waits for them.
func (w *window) stop() {
	w.fail(io.ErrClosedPipe)
	w.workers.Wait()
}
