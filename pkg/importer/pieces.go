package importer

import (
	"context"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// pieceSize is the most bytes of one piece. Four at a time keep four connections busy; larger ones
	// would only cost memory.
	pieceSize = 4 << 20
	// fetchers wait for the source, placers decode and wait for the target, each with one piece.
	fetchers = 4
	placers  = 4
	// inFlight bounds the pieces in memory. Two more than these have can wait for the one before them.
	inFlight = fetchers + placers + 2
	// pageSize is what direct I/O may want of addresses and offsets.
	pageSize = 4096
)

// parcel is a piece under way.
type parcel struct {
	Piece
	buffer, data []byte
	// arrived is closed when data is complete, placed when it is on the target.
	arrived, placed chan struct{}
}

// movement is one run over the pieces of an image.
type movement struct {
	source RandomReader
	// arrived and settled see the pieces in the order of their bytes, the latter after all pieces
	// before it are on the target.
	arrived func(data []byte)
	settled func(ctx context.Context, p Piece) error
}

// move fetches the pieces over several connections and places each as soon as it is there.
func (m movement) move(ctx context.Context, pieces iter.Seq2[Piece, error]) error {
	group, ctx := errgroup.WithContext(ctx)
	free := make(chan []byte, inFlight)
	for range inFlight {
		// The runtime gives blocks of this size whole pages: they are aligned for direct I/O.
		free <- make([]byte, pieceSize+pageSize)
	}
	todo, queue, came := make(chan *parcel), make(chan *parcel, inFlight), make(chan *parcel, inFlight)
	group.Go(func() error {
		defer close(todo)
		defer close(queue)
		return dispatch(ctx, pieces, free, todo, queue)
	})
	var fetching sync.WaitGroup
	for range fetchers {
		fetching.Add(1)
		group.Go(func() error {
			defer fetching.Done()
			return m.fetch(ctx, todo, came)
		})
	}
	group.Go(func() error {
		fetching.Wait()
		close(came)
		return nil
	})
	for range placers {
		group.Go(func() error { return place(ctx, came) })
	}
	group.Go(func() error { return m.settle(ctx, queue, free) })
	return group.Wait()
}

// dispatch gives each piece a buffer and hands it out. A piece never waits for a buffer that a
// later one holds, because buffers are given in order.
func dispatch(ctx context.Context, pieces iter.Seq2[Piece, error], free <-chan []byte, todo, queue chan<- *parcel) error {
	for piece, err := range pieces {
		if err != nil {
			return err
		}
		p := &parcel{Piece: piece, arrived: make(chan struct{}), placed: make(chan struct{})}
		select {
		case p.buffer = <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// What is aligned in the image is aligned in memory, for direct I/O.
		p.data = p.buffer[piece.Off%pageSize:][:piece.Len]
		queue <- p
		select {
		case todo <- p:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// fetch fetches one piece after the other.
func (m movement) fetch(ctx context.Context, todo <-chan *parcel, came chan<- *parcel) error {
	for p := range todo {
		if _, err := m.source.ReadAt(ctx, p.data, p.Off); err != nil {
			return err
		}
		close(p.arrived)
		came <- p // there is room for all that are in flight
	}
	return nil
}

// place brings pieces to where they belong, in any order.
func place(ctx context.Context, came <-chan *parcel) error {
	for p := range came {
		if p.Place != nil {
			if err := p.Place(ctx, p.data); err != nil {
				return err
			}
		}
		close(p.placed)
	}
	return nil
}

// settle follows the pieces in the order of their bytes.
func (m movement) settle(ctx context.Context, queue <-chan *parcel, free chan<- []byte) error {
	for p := range queue {
		for n, done := range []chan struct{}{p.arrived, p.placed} {
			select {
			case <-done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if n == 0 {
				m.arrived(p.data)
			}
		}
		if err := m.settled(ctx, p.Piece); err != nil {
			return err
		}
		free <- p.buffer
	}
	return nil
}
