package source_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

func TestPublishedChecksum(t *testing.T) {
	digits := strings.Repeat("a1", 32)
	s := newSite(t, []byte(digits+"  disk.img\n"))
	clock := newClock()
	o := options(clock)
	o.Credentials = secrets(t)
	s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		switch n {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			w.Header().Set("Content-Length", "75")
			_, _ = w.Write([]byte(digits)) // and no more
		}
		return n < 2
	}
	checksum, err := source.PublishedChecksum(t.Context(), s.url(), "disk.img", o)
	require.NoError(t, err)
	require.Equal(t, "sha256:"+digits, checksum)
	require.Equal(t, []time.Duration{1, 2}, inSeconds(clock.waits))
	require.True(t, carriesSecrets(s.requests[0]))
	require.Empty(t, s.requests[0].Header.Get("Range"))
}

func TestPublishedChecksumsThatAreRefused(t *testing.T) {
	line := strings.Repeat("a1", 32) + "  disk.img\n"
	for name, c := range map[string]struct {
		answer func(clock *fakeClock, w http.ResponseWriter, r *http.Request)
		reason string
		says   string
	}{
		"not there":  {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, source.NotFound, "404"},
		"forbidden":  {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, source.AuthenticationFailed, "403"},
		"a busy one": {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, source.ServerError, "503"},
		"other files": {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.ReplaceAll(line, "disk", "other")))
		}, source.NotFound, `SUMS has no sha256 and no sha512 of "disk.img"`},
		"no text": {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 100)) }, source.SourceRefused, "no text"},
		"endless": {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) {
			for more := true; more; {
				_, err := w.Write(bytes.Repeat([]byte(line), 1000))
				more = err == nil
			}
		}, source.SourceRefused, "larger than 1 MiB"},
		"encoded": {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte(line))
		}, source.SourceRefused, "Content-Encoding"},
		"a part": {func(_ *fakeClock, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-74/900")
			w.WriteHeader(206)
			_, _ = w.Write([]byte(line))
		}, source.SourceRefused, "a part"},
		"silent": {func(clock *fakeClock, w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(line))
			_ = http.NewResponseController(w).Flush()
			clock.timers.end(stallTimeout, nil)
			<-r.Context().Done()
		}, source.Stalled, "too little came"},
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := newSite(t, nil), newClock()
			s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				c.answer(clock, w, r)
				return true
			}
			_, err := source.PublishedChecksum(t.Context(), s.URL+"/SUMS?sig="+canary, "disk.img", options(clock))
			var e *source.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.reason, e.Reason(), err)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), canary)
			require.LessOrEqual(t, s.count(), 3)
		})
	}
}
