package importer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/importer"
)

func TestResultKeepsTheKubeletsLimit(t *testing.T) {
	hostile := strings.Repeat("<\u2028&\x1b[2J", 4000)
	r := importer.Result{Reason: importer.NotFound, Message: hostile, ETag: hostile, LastModified: hostile, VirtualSize: 1 << 62}
	line := r.Marshal()
	require.LessOrEqual(t, len(line), 4096)
	require.NotContains(t, string(line), "\n")
	read, err := importer.ParseResult(line)
	require.NoError(t, err)
	require.Equal(t, importer.NotFound, read.Reason)
	require.LessOrEqual(t, len(read.Message), 1024)
	require.NotContains(t, read.Message, "\x1b")
}

func TestResultFieldNames(t *testing.T) {
	r := importer.Result{
		Reason: importer.ServerError, Message: "m", SourceFormat: "qcow2", VirtualSize: 1, TransferredBytes: 2, WrittenBytes: 3, ScratchBytes: 4,
		Digest: "sha256:00", ETag: `"e"`, LastModified: "l", Seconds: 1.5, RetryAfterSeconds: 90,
	}
	require.JSONEq(t, `{"reason":"ServerError","message":"m","sourceFormat":"qcow2","virtualSize":1,"transferredBytes":2,"writtenBytes":3,
		"scratchBytes":4,"digest":"sha256:00","etag":"\"e\"","lastModified":"l","seconds":1.5,"retryAfterSeconds":90}`, string(r.Marshal()))
	read, err := importer.ParseResult(r.Marshal())
	require.NoError(t, err)
	require.Equal(t, r, read)
}

func TestParseTrustsNothing(t *testing.T) {
	for _, line := range []string{"", "x", "{}", `{"reason":"Hacked"}`, `{"reason":1}`, `[]`, `{"phase":"Importing"}`} {
		_, err := importer.ParseResult([]byte(line))
		require.Error(t, err, line)
	}
	for _, line := range []string{"", "x", "{}", `{"phase":"Hacked"}`, `{"reason":"Imported"}`, "null"} {
		_, err := importer.ParseProgress([]byte(line))
		require.Error(t, err, line)
	}
	p, err := importer.ParseProgress([]byte(`{"phase":"Importing","totalBytes":-1,"transferredBytes":-2,"message":"a\u001bb\nc"}`))
	require.NoError(t, err)
	require.Zero(t, *p.TotalBytes)
	require.Zero(t, p.TransferredBytes)
	require.Equal(t, "a?b c", p.Message)
}

func TestProgressFieldNames(t *testing.T) {
	total := int64(9)
	line, err := json.Marshal(importer.Progress{Phase: importer.Verifying, TotalBytes: &total, TransferredBytes: 1, WrittenBytes: 2, BytesPerSecond: 3, Message: "m"})
	require.NoError(t, err)
	require.Equal(t, `{"phase":"Verifying","totalBytes":9,"transferredBytes":1,"writtenBytes":2,"bytesPerSecond":3,"message":"m"}`, string(line))
	line, err = json.Marshal(importer.Progress{Phase: importer.Importing})
	require.NoError(t, err)
	require.Equal(t, `{"phase":"Importing","transferredBytes":0,"writtenBytes":0,"bytesPerSecond":0}`, string(line))
}

func TestReasonsAreUniqueWords(t *testing.T) {
	seen := map[importer.Reason]bool{}
	for _, row := range importer.Reasons() {
		require.Regexp(t, `^[A-Z][A-Za-z]+$`, string(row.Reason))
		require.False(t, seen[row.Reason], row.Reason)
		require.Contains(t, []int{0, 1, 2, 10, 11, 12, 13, 14}, row.Exit)
		require.Equal(t, row.Exit, row.Reason.ExitCode())
		require.NotEmpty(t, row.Meaning)
		seen[row.Reason] = true
	}
}

type partError struct {
	reason string
	wait   time.Duration
}

func (e partError) Error() string             { return "part" }
func (e partError) Reason() string            { return e.reason }
func (e partError) RetryAfter() time.Duration { return e.wait }

func TestClassify(t *testing.T) {
	cases := map[string]struct {
		err  error
		want importer.Reason
		exit int
	}{
		"typed":            {fmt.Errorf("a: %w", &importer.Error{Reason: importer.TooLarge, Err: errors.New("b")}), importer.TooLarge, 13},
		"of a part":        {fmt.Errorf("a: %w", partError{reason: "NotFound"}), importer.NotFound, 10},
		"unknown reason":   {partError{reason: "Nonsense"}, importer.InternalError, 2},
		"cancelled":        {fmt.Errorf("a: %w", context.Canceled), importer.Interrupted, 1},
		"network":          {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, importer.ConnectionFailed, 1},
		"short body":       {io.ErrUnexpectedEOF, importer.ConnectionFailed, 1},
		"full":             {fmt.Errorf("a: %w", syscall.ENOSPC), importer.NoSpace, 13},
		"io":               {syscall.EIO, importer.TargetError, 14},
		"nothing known":    {errors.New("x"), importer.InternalError, 2},
		"wrapped deadline": {fmt.Errorf("a: %w", context.DeadlineExceeded), importer.ConnectionFailed, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := importer.Classify(c.err)
			require.Equal(t, c.want, e.Reason)
			require.Equal(t, c.exit, e.Reason.ExitCode())
			require.ErrorIs(t, e, c.err)
		})
	}
	require.Equal(t, 90*time.Second, importer.Classify(partError{"TooManyRequests", 90 * time.Second}).RetryAfter)
}
