package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/nbd"
)

func TestNegotiation(t *testing.T) {
	e := inMemory(random(1000))
	t.Run("unknown options, list, info, go", func(t *testing.T) {
		c := dial(t, t.Context(), e)
		c.hello(3)
		// Structured replies, meta contexts, TLS, and what nobody knows yet.
		for _, option := range []uint32{5, 8, 9, 10, 11, 1 << 30} {
			c.option(option, make([]byte, 20))
			kind, _ := c.optionReply(option)
			require.EqualValues(t, 1<<31+1, kind)
		}
		c.option(3, nil)
		kind, data := c.optionReply(3)
		require.EqualValues(t, 2, kind)
		require.Equal(t, make([]byte, 4), data)
		kind, _ = c.optionReply(3)
		require.EqualValues(t, 1, kind)
		for _, bad := range [][]byte{nil, {0, 0, 0, 0}, {0, 0, 0, 9, 0, 0}, {255, 255, 255, 255, 0, 0}, {0, 0, 0, 0, 0, 1}} {
			c.option(7, bad)
			kind, _ = c.optionReply(7)
			require.EqualValues(t, 1<<31+3, kind)
		}
		c.option(7, goData("other"))
		kind, _ = c.optionReply(7)
		require.EqualValues(t, 1<<31+6, kind)
		c.option(6, goData(""))
		_, _ = c.info(6)
		c.option(7, append(goData("")[:4], 0, 1, 0, 3))
		size, flags := c.info(7)
		require.EqualValues(t, 1000, size)
		require.EqualValues(t, 3, flags, "has flags, is read-only")
		require.NoError(t, c.end())
	})
	t.Run("abort", func(t *testing.T) {
		c := dial(t, t.Context(), e)
		c.hello(1)
		c.option(2, nil)
		kind, _ := c.optionReply(2)
		require.EqualValues(t, 1, kind)
		c.gone()
		require.NoError(t, c.end())
	})
	for name, row := range map[string]struct {
		flags uint32
		pad   int
	}{"export name": {3, 0}, "export name of an old client": {1, 124}} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, t.Context(), e)
			c.hello(row.flags)
			c.option(1, nil)
			require.Equal(t, append([]byte{0, 0, 0, 0, 0, 0, 3, 232, 0, 3}, make([]byte, row.pad)...), c.read(10+row.pad))
			require.NoError(t, c.end())
		})
	}
}

func TestMisbehaviourEndsTheConnection(t *testing.T) {
	e := inMemory(random(1000))
	for name, row := range map[string]struct {
		do   func(c *client)
		want string
	}{
		"unknown flags": {func(c *client) { c.hello(8) }, "unknown flags 0x8"},
		"other name":    {func(c *client) { c.hello(3); c.option(1, []byte("x")) }, "export of the name"},
		"no option":     {func(c *client) { c.hello(3); c.write(make([]byte, 16)) }, "in place of an option"},
		"large option":  {func(c *client) { c.hello(3); c.write([]byte("IHAVEOPT"), uint32(7), uint32(1<<31)) }, "option of 2147483648 bytes"},
		"endless haggling": {func(c *client) {
			c.hello(3)
			for range 64 {
				c.option(99, nil)
				_, _ = c.optionReply(99)
			}
		}, "64 options"},
		"no request":  {func(c *client) { c.hello(3); c.option(1, nil); _ = c.read(10); c.write(make([]byte, 28)) }, "in place of a request"},
		"large write": {func(c *client) { c.hello(3); c.option(1, nil); _ = c.read(10); c.ask(1, 0, 1, 0, 1<<31) }, "may only read"},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, t.Context(), e)
			row.do(c)
			c.gone()
			require.ErrorContains(t, c.end(), row.want)
		})
	}
	t.Run("half a request", func(t *testing.T) {
		c := open(t, t.Context(), e)
		c.write(uint32(0x25609513))
		require.ErrorIs(t, c.end(), io.ErrUnexpectedEOF)
	})
}

func TestBadRequestsAreAnswered(t *testing.T) {
	b := random(3 * chunk)
	c := open(t, t.Context(), inMemory(b))
	size := uint64(len(b))
	for name, row := range map[string]struct {
		command, flags uint16
		off            uint64
		length         uint32
		want           uint32
	}{
		"past the end":    {0, 0, size - 1, 2, 22},
		"behind the end":  {0, 0, size + 1, 1, 22},
		"overflow":        {0, 0, 1<<64 - 1, 2, 22},
		"nothing":         {0, 0, 0, 0, 22},
		"too much":        {0, 0, 0, 32<<20 + 1, 75},
		"unknown flag":    {0, 4, 0, 1, 22},
		"flush":           {3, 0, 0, 0, 22},
		"trim":            {4, 0, 0, 512, 22},
		"block status":    {7, 0, 0, 512, 22},
		"unknown command": {99, 0, 0, 512, 22},
	} {
		c.ask(row.command, row.flags, 7, row.off, row.length)
		cookie, code := c.replyHead()
		require.EqualValues(t, 7, cookie, name)
		require.Equal(t, row.want, code, name)
	}
	c.ask(1, 0, 8, 0, 1000)
	c.write(make([]byte, 1000))
	_, code := c.replyHead()
	require.EqualValues(t, 1, code, "a write is not permitted")
	// None of this broke the connection.
	c.ask(0, 0, 9, size-700, 700)
	_, code = c.replyHead()
	require.Zero(t, code)
	require.Equal(t, b[size-700:], c.read(700))
	c.ask(2, 0, 0, 0, 0)
	c.gone()
	require.NoError(t, c.end())
}

func TestReadsOfAllSizes(t *testing.T) {
	b := random(20*mib + 777)
	c := open(t, t.Context(), inMemory(b))
	for _, r := range []struct{ off, length int }{
		{0, 1}, {len(b) - 1, 1}, {0, len(b)}, {chunk - 1, 2}, {chunk, chunk}, {chunk + 1, chunk}, {19 * mib, mib + 777}, {3, 5 * mib}, {0, 512},
	} {
		c.ask(0, 0, 1, uint64(r.off), uint32(r.length))
		_, code := c.replyHead()
		require.Zero(t, code)
		require.True(t, bytes.Equal(b[r.off:r.off+r.length], c.read(r.length)), r)
	}
	require.NoError(t, c.end())
}

// TestRepliesComeInAnyOrder holds one read back until a later one is answered.
func TestRepliesComeInAnyOrder(t *testing.T) {
	b := random(64 * chunk)
	held := make(chan struct{})
	e := inMemory(b)
	plain := e.ReadAt
	e.ReadAt = func(ctx context.Context, p []byte, off int64) (int, error) {
		if off == 0 {
			<-held
		}
		return plain(ctx, p, off)
	}
	c := open(t, t.Context(), e)
	c.ask(0, 0, 1, 0, 10)
	c.ask(0, 0, 2, 40*chunk, 10)
	cookie, _ := c.replyHead()
	require.EqualValues(t, 2, cookie)
	require.Equal(t, b[40*chunk:40*chunk+10], c.read(10))
	close(held)
	cookie, _ = c.replyHead()
	require.EqualValues(t, 1, cookie)
	require.Equal(t, b[:10], c.read(10))
	require.NoError(t, c.end())
}

// TestGoodbyeWaitsForReplies says goodbye while a read is under way.
func TestGoodbyeWaitsForReplies(t *testing.T) {
	b := random(chunk)
	held := make(chan struct{})
	e := inMemory(b)
	plain := e.ReadAt
	e.ReadAt = func(ctx context.Context, p []byte, off int64) (int, error) { <-held; return plain(ctx, p, off) }
	c := open(t, t.Context(), e)
	c.ask(0, 0, 1, 0, 10)
	c.ask(2, 0, 0, 0, 0)
	close(held)
	_, code := c.replyHead()
	require.Zero(t, code)
	require.Equal(t, b[:10], c.read(10))
	c.gone()
	require.NoError(t, c.end())
}

func TestSourceErrorIsKept(t *testing.T) {
	first := errors.New("the server cut the connection 5 times")
	e := inMemory(random(8 * chunk))
	plain := e.ReadAt
	var fails atomic.Int32
	e.ReadAt = func(ctx context.Context, p []byte, off int64) (int, error) {
		if off < 2*chunk {
			return plain(ctx, p, off)
		}
		if fails.Add(1) == 1 {
			return 0, first
		}
		return len(p) - 1, nil
	}
	c := open(t, t.Context(), e)
	for i, want := range []uint32{0, 5, 5} {
		c.ask(0, 0, uint64(i), uint64(i*4*chunk-min(i, 1)), 1)
		_, code := c.replyHead()
		require.Equal(t, want, code)
		if code == 0 {
			_ = c.read(1)
		}
	}
	require.Equal(t, first, c.end())
}

func TestShortReadIsAnError(t *testing.T) {
	e := nbd.Export{Size: 1000, ReadAt: func(_ context.Context, p []byte, _ int64) (int, error) { return len(p) - 1, nil }}
	c := open(t, t.Context(), e)
	c.ask(0, 0, 1, 0, 10)
	_, code := c.replyHead()
	require.EqualValues(t, 5, code)
	require.ErrorContains(t, c.end(), "source gave 999 of 1000 bytes at 0")
}

// TestFailedReadAheadIsNoFailure fails only what nobody asked for.
func TestFailedReadAheadIsNoFailure(t *testing.T) {
	b := random(16 * chunk)
	e := inMemory(b)
	plain := e.ReadAt
	ahead := make(chan struct{})
	e.ReadAt = func(ctx context.Context, p []byte, off int64) (int, error) {
		if off >= 2*chunk {
			if off == 2*chunk {
				close(ahead)
			}
			return 0, io.ErrClosedPipe
		}
		return plain(ctx, p, off)
	}
	c := open(t, t.Context(), e)
	for i := range 2 {
		c.ask(0, 0, 1, uint64(i*chunk), 10)
		_, code := c.replyHead()
		require.Zero(t, code)
		_ = c.read(10)
	}
	<-ahead
	require.NoError(t, c.end())
}

// TestOneFetchForManyReads has many reads of one chunk wait for the same fetch.
func TestOneFetchForManyReads(t *testing.T) {
	b := random(chunk)
	var fetches atomic.Int32
	held := make(chan struct{})
	e := inMemory(b)
	plain := e.ReadAt
	e.ReadAt = func(ctx context.Context, p []byte, off int64) (int, error) {
		fetches.Add(1)
		<-held
		return plain(ctx, p, off)
	}
	c := open(t, t.Context(), e)
	for i := range 10 {
		c.ask(0, 0, uint64(i), uint64(i*512), 512)
	}
	close(held)
	for range 10 {
		cookie, code := c.replyHead()
		require.Zero(t, code)
		require.Equal(t, b[cookie*512:cookie*512+512], c.read(512))
	}
	require.NoError(t, c.end())
	require.EqualValues(t, 1, fetches.Load())
}

// TestReadAheadKeepsConnectionsBusy reads forward and sees 8 fetches at once; a read at random
// fetches nothing more than it needs.
func TestReadAheadKeepsConnectionsBusy(t *testing.T) {
	b := random(32 * chunk)
	var mu sync.Mutex
	busy, offs := sync.NewCond(&mu), map[int64]bool{}
	e := inMemory(b)
	plain := e.ReadAt
	e.ReadAt = func(ctx context.Context, p []byte, off int64) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		offs[off/chunk] = true
		busy.Broadcast()
		for off/chunk == 11 && len(offs) < 9 {
			busy.Wait()
		}
		return plain(ctx, p, off)
	}
	c := open(t, t.Context(), e)
	take := func(index int) {
		c.ask(0, 0, 1, uint64(index*chunk), 512)
		_, code := c.replyHead()
		require.Zero(t, code)
		_ = c.read(512)
	}
	take(10)
	require.Equal(t, map[int64]bool{10: true}, offs)
	take(11)
	require.GreaterOrEqual(t, len(offs), 9)
	require.NoError(t, c.end())
}

// TestInFlightIsBounded asks for more than may be under way.
func TestInFlightIsBounded(t *testing.T) {
	b := random(64 * chunk)
	var now, most atomic.Int32
	e := inMemory(b)
	plain := e.ReadAt
	e.ReadAt = func(ctx context.Context, p []byte, off int64) (int, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		runtime.Gosched()
		return plain(ctx, p, off)
	}
	c := open(t, t.Context(), e)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for i := range 500 {
			c.ask(0, 0, uint64(i), uint64(i*31%64*chunk), 4096)
		}
	}()
	for range 500 {
		cookie, code := c.replyHead()
		require.Zero(t, code)
		off := int(cookie) * 31 % 64 * chunk
		require.True(t, bytes.Equal(b[off:off+4096], c.read(4096)))
	}
	<-asked
	require.NoError(t, c.end())
	require.LessOrEqual(t, most.Load(), int32(24))
}

// TestMemoryIsBounded has a client ask for 16 times 32 MiB and read nothing.
func TestMemoryIsBounded(t *testing.T) {
	e := nbd.Export{Size: 1 << 40, ReadAt: func(_ context.Context, p []byte, _ int64) (int, error) { return len(p), nil }}
	c := open(t, t.Context(), e)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.ask(0, 0, 0, 0, 32<<20)
	c.ask(0, 0, 1, 32<<20, 32<<20)
	_, code := c.replyHead()
	require.Zero(t, code)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(60*mib), "the second read waits for the first one's reply")
	require.NoError(t, c.end())
}

func TestCancelEndsEverything(t *testing.T) {
	cause := errors.New("the user cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	reading := make(chan struct{})
	var once sync.Once
	c := open(t, ctx, nbd.Export{Size: 1 << 30, ReadAt: func(ctx context.Context, _ []byte, _ int64) (int, error) {
		once.Do(func() { close(reading) })
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	c.ask(0, 0, 1, 0, 10)
	<-reading
	cancel(cause)
	require.Equal(t, cause, <-c.ended)
	require.NoError(t, c.conn.Close())
}

// TestHangUpEndsFetches has the client go while a fetch hangs: that is no error of the source.
func TestHangUpEndsFetches(t *testing.T) {
	reading := make(chan struct{})
	c := open(t, t.Context(), nbd.Export{Size: chunk, ReadAt: func(ctx context.Context, _ []byte, _ int64) (int, error) {
		close(reading)
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	c.ask(0, 0, 1, 0, 10)
	<-reading
	require.NoError(t, c.end())
}

// TestQemu reads through the real clients, byte by byte the same.
func TestQemu(t *testing.T) {
	for _, tool := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: needs %s (Debian: qemu-utils)", tool)
		}
	}
	b := random(40*mib + 512)
	clear(b[10*mib : 20*mib])
	dir := t.TempDir()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "socket"))
	require.NoError(t, err)
	results := make(chan error)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				close(results)
				return
			}
			results <- nbd.Serve(t.Context(), conn, inMemory(b))
		}
	}()
	uri := "nbd+unix:///?socket=" + listener.Addr().String()
	run := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, string(out))
		require.NoError(t, <-results)
		return string(out)
	}
	require.Contains(t, run("qemu-img", "info", "-f", "raw", uri), "40 MiB (41943552 bytes)")
	copied := filepath.Join(dir, "copy")
	run("qemu-img", "convert", "-m", "16", "-W", "-f", "raw", "-O", "raw", uri, copied)
	got, err := os.ReadFile(copied)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
	require.Contains(t, run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 10M 10M", "-c", "read 511 7", uri), "read 7/7 bytes at offset 511")
	out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", "raw", "-c", "write 0 512", uri).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "Permission denied")
	require.NoError(t, <-results)
	require.NoError(t, listener.Close())
	_, more := <-results
	require.False(t, more)
}
