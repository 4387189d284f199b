//go:build e2e

package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/test/imageserver/server"
)

// bytesAgain is how many bytes may be read a second time after a connection is cut.
const bytesAgain = 8 * mib

// TestResumes cuts the connection again and again and counts what is read twice.
func TestResumes(t *testing.T) {
	t.Parallel()
	const cuts, each = 5, 3 * mib / 2
	for name, test := range map[string]struct {
		image func(*fixture) image
		reset bool
	}{
		"raw, closed":   {func(f *fixture) image { return f.Raw(diskSize) }, false},
		"raw, reset":    {func(f *fixture) image { return f.Raw(diskSize) }, true},
		"qcow2, closed": {func(f *fixture) image { return f.Qcow2(diskSize) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := test.image(f)
			cut := img.file
			cut.CutAfter, cut.CutTimes, cut.Reset = each, cuts, test.reset
			source := f.Serve("disk", cut)
			f.VMDiskImage("image", source.URL)
			c := f.Claim("disk", "image", block)
			f.RequireDone(c, img)

			ranged, full, short := 0, 0, 0
			for _, request := range source.Requests() {
				if request.Method != http.MethodGet {
					continue
				}
				if request.Bytes == each {
					short++
				}
				switch {
				case request.Status == http.StatusPartialContent && request.Header.Get("Range") != "":
					ranged++
					if ranged > 1 {
						require.NotEmpty(t, request.Header.Get("If-Range")+request.Header.Get("If-Match"), "what goes on must be the same file")
					}
				case request.Status == http.StatusOK:
					full++
				}
			}
			require.Equal(t, cuts, short, "the connection was cut")
			require.GreaterOrEqual(t, ranged, cuts, "Range is used")
			require.LessOrEqual(t, full, 1)
			require.LessOrEqual(t, source.Bytes(), img.length+cuts*bytesAgain)
		})
	}
}

// TestStartsOverWithoutRange imports from a server that cannot resume: all or nothing.
func TestStartsOverWithoutRange(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	cut := img.file
	cut.NoRange, cut.CutAfter, cut.CutTimes = true, diskSize/2, 1
	f.VMDiskImage("image", f.Serve("disk", cut).URL)
	c := f.Claim("disk", "image", block)
	f.RequireDone(c, img)
}

// TestNeverMixesTwoVersions replaces the image while it is read. Whatever happens, the claim
// holds one version or is not bound.
func TestNeverMixesTwoVersions(t *testing.T) {
	t.Parallel()
	for name, noRange := range map[string]bool{"with ranges": false, "without ranges": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			old, replaced := f.Raw(diskSize), f.Raw(diskSize)
			replaced.disk.Seed++
			replaced.file.Disk, replaced.file.NoRange = &replaced.disk, noRange
			cut := old.file
			cut.NoRange, cut.CutAfter, cut.CutTimes, cut.AfterCut = noRange, 3*mib/2, 1, &replaced.file
			f.VMDiskImage("image", f.Serve("disk", cut).URL)
			c := f.Claim("disk", "image", block)
			f.RequireDone(c, replaced)
		})
	}
}

// TestWaitsForABusyServer imports from a server that says for a while that it is busy.
func TestWaitsForABusyServer(t *testing.T) {
	t.Parallel()
	const pause = 3 * time.Second
	for name, busy := range map[string]server.File{
		"503":                  {Status: http.StatusServiceUnavailable, StatusTimes: 3},
		"429 with Retry-After": {Status: http.StatusTooManyRequests, StatusTimes: 2, Headers: map[string]string{"Retry-After": "3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := f.Raw(diskSize)
			file := busy
			file.Disk = img.file.Disk
			source := f.Serve("disk", file)
			f.VMDiskImage("image", source.URL)
			c := f.Claim("disk", "image", block)
			f.RequireDone(c, img)
			requests := source.Requests()
			for i, request := range requests {
				if request.Status == http.StatusTooManyRequests {
					require.GreaterOrEqual(t, requests[i+1].Time.Sub(request.Time), pause, "earlier than the server asked for")
				}
			}
		})
	}
}
