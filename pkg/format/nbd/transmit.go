package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Transmission with simple replies.
const (
	requestMagic = 0x25609513
	simpleMagic  = 0x67446698
	headerSize   = 16

	commandRead  = 0
	commandWrite = 1
	commandBye   = 2

	errorNotPermitted = 1
	errorIO           = 5
	errorInvalid      = 22
	errorOverflow     = 75
)

// server is one connection.
type server struct {
	conn   net.Conn
	in     *bufio.Reader
	export Export
	cache  *cache
	// memory and slots bound what is under way.
	memory *semaphore.Weighted
	slots  *semaphore.Weighted
	// reads are those under way. Each sends its own reply.
	reads sync.WaitGroup
	// sending is held while one message is written.
	sending sync.Mutex
}

func newServer(conn net.Conn, e Export) *server {
	return &server{
		conn: conn, in: bufio.NewReaderSize(conn, 4096), export: e, cache: newCache(e),
		memory: semaphore.NewWeighted(maxMemory), slots: semaphore.NewWeighted(maxInFlight),
	}
}

type request struct {
	flags, command uint16
	cookie         uint64
	offset         uint64
	length         uint32
}

func (s *server) readRequest() (request, error) {
	var b [28]byte
	if _, err := io.ReadFull(s.in, b[:]); err != nil {
		return request{}, err
	}
	if magic := binary.BigEndian.Uint32(b[:]); magic != requestMagic {
		return request{}, fmt.Errorf("client sent %#x in place of a request", magic)
	}
	return request{
		flags: binary.BigEndian.Uint16(b[4:]), command: binary.BigEndian.Uint16(b[6:]),
		cookie: binary.BigEndian.Uint64(b[8:]), offset: binary.BigEndian.Uint64(b[16:]), length: binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// transmit takes requests until the client goes. Reads answer in any order.
func (s *server) transmit(ctx context.Context) error {
	for {
		r, err := s.readRequest()
		if err != nil {
			return err
		}
		if r.command == commandBye {
			// The client may still want the replies to what it asked before.
			s.reads.Wait()
			return nil
		}
		if code := s.judge(r); code != 0 {
			err = s.refuse(r, code)
		} else {
			err = s.start(ctx, r)
		}
		if err != nil {
			return err
		}
	}
}

// judge returns the error of a request that is not a good read, else 0.
func (s *server) judge(r request) uint32 {
	size := uint64(s.export.Size) //nolint:gosec // Serve refused negative sizes
	switch {
	case r.command == commandWrite:
		return errorNotPermitted
	case r.command != commandRead || r.flags != 0 || r.length == 0:
		return errorInvalid
	case r.length > maxRequest:
		return errorOverflow
	case r.offset > size || uint64(r.length) > size-r.offset:
		return errorInvalid
	}
	return 0
}

// refuse answers with an error. The data of a write, which the client was told not to send, is
// skipped.
func (s *server) refuse(r request, code uint32) error {
	if r.command == commandWrite {
		if r.length > maxRequest {
			return fmt.Errorf("client writes %d bytes to an image that it may only read", r.length)
		}
		if _, err := io.CopyN(io.Discard, s.in, int64(r.length)); err != nil {
			return err
		}
	}
	return s.send(header(r, code))
}

// start waits until there is room for one more read and starts it.
func (s *server) start(ctx context.Context, r request) error {
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	if err := s.memory.Acquire(ctx, int64(r.length)); err != nil {
		return err
	}
	s.reads.Go(func() {
		defer s.slots.Release(1)
		defer s.memory.Release(int64(r.length))
		message := make([]byte, headerSize+int(r.length))
		copy(message, header(r, 0))
		//nolint:gosec // judge compared it with the size
		if err := s.cache.readAt(ctx, message[headerSize:], int64(r.offset)); err != nil {
			message = header(r, errorIO)
		}
		if err := s.send(message); err != nil {
			// The side that takes requests sees it too, once nothing can be read.
			_ = s.conn.Close()
		}
	})
	return nil
}

func header(r request, code uint32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, headerSize), simpleMagic)
	b = binary.BigEndian.AppendUint32(b, code)
	return binary.BigEndian.AppendUint64(b, r.cookie)
}

// send writes one message whole.
func (s *server) send(message []byte) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	_, err := s.conn.Write(message)
	return err
}
