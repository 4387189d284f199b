package nbd_test

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/nbd"
)

const (
	chunk = 512 << 10
	mib   = 1 << 20
)

// client speaks the protocol byte by byte, right or wrong.
type client struct {
	t     *testing.T
	conn  net.Conn
	ended chan error
}

func dial(t *testing.T, ctx context.Context, e nbd.Export) *client { //nolint:revive // the test comes first
	t.Helper()
	ours, theirs := net.Pipe()
	c := &client{t: t, conn: ours, ended: make(chan error, 1)}
	go func() { c.ended <- nbd.Serve(ctx, theirs, e) }()
	return c
}

// open dials and agrees on the export.
func open(t *testing.T, ctx context.Context, e nbd.Export) *client { //nolint:revive // the test comes first
	t.Helper()
	c := dial(t, ctx, e)
	c.hello(3)
	c.option(7, goData(""))
	size, _ := c.info(7)
	require.EqualValues(t, e.Size, size)
	return c
}

func (c *client) end() error {
	c.t.Helper()
	require.NoError(c.t, c.conn.Close())
	return <-c.ended
}

func (c *client) write(parts ...any) {
	c.t.Helper()
	var b []byte
	var err error
	for _, part := range parts {
		b, err = binary.Append(b, binary.BigEndian, part)
		require.NoError(c.t, err)
	}
	_, err = c.conn.Write(b)
	require.NoError(c.t, err)
}

func (c *client) read(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(c.conn, b)
	require.NoError(c.t, err)
	return b
}

// gone expects the server to hang up.
func (c *client) gone() {
	c.t.Helper()
	_, err := c.conn.Read(make([]byte, 1))
	require.ErrorIs(c.t, err, io.EOF)
}

func (c *client) hello(flags uint32) {
	c.t.Helper()
	require.Equal(c.t, "NBDMAGICIHAVEOPT\x00\x03", string(c.read(18)))
	c.write(flags)
}

func (c *client) option(option uint32, data []byte) {
	c.t.Helper()
	c.write([]byte("IHAVEOPT"), option, uint32(len(data)), data)
}

func (c *client) optionReply(option uint32) (kind uint32, data []byte) {
	c.t.Helper()
	head := c.read(20)
	require.EqualValues(c.t, 0x3e889045565a9, binary.BigEndian.Uint64(head))
	require.Equal(c.t, option, binary.BigEndian.Uint32(head[8:]))
	return binary.BigEndian.Uint32(head[12:]), c.read(int(binary.BigEndian.Uint32(head[16:])))
}

// info takes the three replies to info and go.
func (c *client) info(option uint32) (size uint64, flags uint16) {
	c.t.Helper()
	kind, data := c.optionReply(option)
	require.EqualValues(c.t, 3, kind)
	require.Len(c.t, data, 12)
	kind, sizes := c.optionReply(option)
	require.EqualValues(c.t, 3, kind)
	require.Equal(c.t, []byte{0, 3, 0, 0, 0, 1, 0, 8, 0, 0, 2, 0, 0, 0}, sizes)
	kind, _ = c.optionReply(option)
	require.EqualValues(c.t, 1, kind)
	return binary.BigEndian.Uint64(data[2:]), binary.BigEndian.Uint16(data[10:])
}

func goData(name string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(name))), name+"\x00\x00"...)
}

func (c *client) ask(command, flags uint16, cookie, off uint64, length uint32) {
	c.t.Helper()
	c.write(uint32(0x25609513), flags, command, cookie, off, length)
}

func (c *client) replyHead() (cookie uint64, code uint32) {
	c.t.Helper()
	head := c.read(16)
	require.EqualValues(c.t, 0x67446698, binary.BigEndian.Uint32(head))
	return binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint32(head[4:])
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func inMemory(b []byte) nbd.Export {
	return nbd.Export{Size: int64(len(b)), ReadAt: func(_ context.Context, p []byte, off int64) (int, error) {
		return copy(p, b[off:]), nil
	}}
}
