package qcow2

import "sync"

const (
	// windowBytes is how much of the file a forward pass remembers.
	windowBytes = 32 << 20
	minBlock    = 1 << 20
)

// block is an aligned part of the file, whole clusters long.
type block struct {
	index int64
	b     []byte
	// covered is how much of it is known to be needed no more, in bytes.
	covered int64
	// users are the jobs that read it.
	users int
	// gone blocks are not remembered; the last user frees the memory.
	gone bool
}

// window remembers the last blocks of the file. One goroutine moves it; jobs of others may
// still read its blocks.
type window struct {
	size int64
	held map[int64]*block

	mu   sync.Mutex
	idle *sync.Cond
	free [][]byte
	made int64
}

func newWindow(cluster int64) *window {
	w := &window{size: max(cluster, minBlock), held: map[int64]*block{}}
	w.idle = sync.NewCond(&w.mu)
	return w
}

// next begins a block. When the memory is used up, the oldest one is lost.
func (w *window) next(index int64, lost func(*block)) *block {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.free) == 0 && w.made > windowBytes/w.size {
		if oldest := w.oldest(); oldest != nil {
			lost(oldest)
			w.forget(oldest)
		} else {
			w.idle.Wait()
		}
	}
	if len(w.free) == 0 {
		w.made++
		w.free = append(w.free, aligned(w.size))
	}
	last := len(w.free) - 1
	b := &block{index: index, b: w.free[last][:0]}
	w.free = w.free[:last]
	w.held[index] = b
	return b
}

// oldest returns the first block without users.
func (w *window) oldest() *block {
	var found *block
	for _, b := range w.held {
		if b.users == 0 && (found == nil || b.index < found.index) {
			found = b
		}
	}
	return found
}

// forget needs the lock.
func (w *window) forget(b *block) {
	delete(w.held, b.index)
	b.gone = true
	if b.users == 0 {
		w.free = append(w.free, b.b)
	}
}

// release forgets the blocks that done names.
func (w *window) release(done func(*block) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.held {
		if done(b) {
			w.forget(b)
		}
	}
}

// pin returns the blocks from first to last for a job, nil if one of them is forgotten.
func (w *window) pin(first, last int64) []*block {
	w.mu.Lock()
	defer w.mu.Unlock()
	blocks := make([]*block, 0, last-first+1)
	for i := first; i <= last; i++ {
		b := w.held[i]
		if b == nil {
			return nil
		}
		blocks = append(blocks, b)
	}
	for _, b := range blocks {
		b.users++
	}
	return blocks
}

func (w *window) unpin(blocks []*block) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range blocks {
		if b.users--; b.users == 0 && b.gone {
			w.free = append(w.free, b.b)
		}
	}
	w.idle.Signal()
}

// has tells whether all blocks of a span are remembered.
func (w *window) has(off, length int64) bool {
	for i := off / w.size; i <= (off+length-1)/w.size; i++ {
		if w.held[i] == nil {
			return false
		}
	}
	return true
}
