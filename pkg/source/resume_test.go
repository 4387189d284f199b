package source_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// ways are the two ways to read: the opening request is answered with a part, or with the
// whole image by a server that sends parts only to resume.
func ways() map[string]func(r *http.Request) {
	return map[string]func(r *http.Request){
		"ranged": func(*http.Request) {},
		"forward": func(r *http.Request) {
			if r.Header.Get("If-Range") == "" {
				r.Header.Del("Range")
			}
		},
	}
}

// asked is the range of a request for an image of size bytes.
func asked(r *http.Request, size int) (first, last int) {
	last = size - 1
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
	return first, min(last, size-1)
}

// breakAt ends the first answer that reaches each of the offsets there.
func (s *site) breakAt(offsets []int, reset bool, way func(r *http.Request)) {
	left := slices.Clone(offsets)
	s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		way(r)
		first, last := asked(r, len(s.body))
		s.mu.Lock()
		at := slices.IndexFunc(left, func(o int) bool { return o >= first && o <= last })
		if at < 0 {
			s.mu.Unlock()
			return false
		}
		o := left[at]
		left = slices.Delete(left, at, at+1)
		s.mu.Unlock()
		s.serve(&cutWriter{ResponseWriter: w, left: o - first, reset: reset}, r)
		return true
	}
}

// TestResume is fault N1 (and N4 when the connection ends in good order).
func TestResume(t *testing.T) {
	most := random(24 * mib)
	every := func(step, size int) (all []int) {
		for o := step; o < size; o += step {
			all = append(all, o)
		}
		return all
	}
	const size = 9 * mib
	for way, spoil := range ways() {
		for _, reset := range []bool{true, false} {
			for name, cuts := range map[string][]int{
				"1 %": {size / 100}, "50 %": {size / 2}, "99 %": {size / 100 * 99}, "last byte": {size - 1},
				"every 4 MiB": every(4*mib-1, size),
				// More than the MiB that counts as progress is between two of them.
				"20 times": every(len(most)/20-1, len(most)),
			} {
				t.Run(fmt.Sprintf("%s, %s, reset %v", way, name, reset), func(t *testing.T) {
					body := most[:max(size, cuts[len(cuts)-1]+1)]
					s := newSite(t, body)
					s.breakAt(cuts, reset, spoil)
					clock := newClock()
					image := open(t, s.url(), options(clock))
					require.Equal(t, way == "ranged", image.Ranged())
					got, err := readAll(t.Context(), image, 64<<10)
					require.NoError(t, err)
					require.True(t, bytes.Equal(body, got))
					require.NotEmpty(t, clock.waits)
					require.LessOrEqual(t, len(clock.waits), len(cuts))
					for _, wait := range clock.waits {
						// Two connections may break within the MiB that counts as progress.
						require.LessOrEqual(t, wait, 2*time.Second, "progress makes the waits short again")
					}
					require.LessOrEqual(t, s.bytes(), int64(len(body)+len(cuts)*8*mib))
					for _, r := range s.requests[1:] {
						require.Equal(t, `"one"`, r.Header.Get("If-Range"))
						require.Equal(t, `"one"`, r.Header.Get("If-Match"))
						require.Regexp(t, `^bytes=\d+-\d*$`, r.Header.Get("Range"))
					}
				})
			}
		}
	}
}

func TestResumeGivesUpWithoutProgress(t *testing.T) {
	s := newSite(t, random(24*mib))
	s.cutAt(1000, true)
	clock := newClock()
	e := failure(t, s.url(), options(clock))
	require.Equal(t, source.ConnectionFailed, e.Reason())
	require.False(t, e.StartOver())
	require.Equal(t, 12, s.count())
	require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60}, inSeconds(clock.waits))
}

func inSeconds(waits []time.Duration) []time.Duration {
	var all []time.Duration
	for _, d := range waits {
		all = append(all, d/time.Second)
	}
	return all
}

func TestServerErrorsPass(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504, 599, 408, 425, 429} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			s := newSite(t, random(mib))
			s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n < 10 {
					w.WriteHeader(status)
				}
				return n < 10
			}
			clock := newClock()
			got, err := readAll(t.Context(), open(t, s.url(), options(clock)), 64<<10)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60, 60}, inSeconds(clock.waits))
		})
	}
}

func TestServerErrorForEver(t *testing.T) {
	s := newSite(t, nil)
	s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
	require.Equal(t, source.ServerError, failure(t, s.url(), options(newClock())).Reason())
	require.Equal(t, 12, s.count())
}

func TestRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		wait   time.Duration
		final  time.Duration
	}{
		"seconds":   {"7", 7 * time.Second, 0},
		"date":      {newClock().now.Add(20 * time.Second).Format(http.TimeFormat), 20 * time.Second, 0},
		"past date": {newClock().now.Add(-time.Hour).Format(http.TimeFormat), time.Second, 0},
		"garbage":   {"soon", time.Second, 0},
		"negative":  {"-5", time.Second, 0},
		"a minute":  {"60", 60 * time.Second, 0},
		"longer":    {"61", 0, 61 * time.Second},
		"a day":     {"86400", 0, 24 * time.Hour},
		"for ever":  {"99999999999999999", 0, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, []byte("x"))
			s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n == 0 {
					w.Header().Set("Retry-After", c.header)
					// The clock of the server says the same as ours.
					w.Header().Set("Date", newClock().now.Format(http.TimeFormat))
					w.WriteHeader(http.StatusTooManyRequests)
				}
				return n == 0
			}
			clock := newClock()
			if c.final > 0 {
				e := failure(t, s.url(), options(clock))
				require.Equal(t, source.TooManyRequests, e.Reason())
				require.Equal(t, c.final, e.RetryAfter())
				require.Empty(t, clock.waits)
				return
			}
			_, err := readAll(t.Context(), open(t, s.url(), options(clock)), 100)
			require.NoError(t, err)
			require.Len(t, clock.waits, 1)
			require.InDelta(t, c.wait, clock.waits[0], float64(2*time.Second))
			if name == "seconds" {
				require.GreaterOrEqual(t, clock.waits[0], c.wait)
			}
		})
	}
}

func TestUnresumableStartsOver(t *testing.T) {
	for name, spoil := range map[string]func(s *site){
		"no etag":   func(s *site) { s.etag = "" },
		"weak etag": func(s *site) { s.etag = `W/"one"` },
		"bad etag":  func(s *site) { s.etag = `one` },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(4*mib))
			spoil(s)
			s.cutAt(2*mib, true)
			e := failure(t, s.url(), options(newClock()))
			require.Equal(t, source.ConnectionFailed, e.Reason())
			require.True(t, e.StartOver())
			require.Equal(t, 2, s.count(), "a part is never asked for without a strong validator")
			require.Equal(t, "bytes=0-262143", s.requests[0].Header.Get("Range"), "only to see what the server can do")
			require.Empty(t, s.requests[1].Header.Get("Range"))
		})
	}
}

// TestPartsThatLie has a server that breaks at half and then answers the request for the rest.
func TestPartsThatLie(t *testing.T) {
	const size, half = 4 * mib, 2 * mib
	for name, c := range map[string]struct {
		answer func(s *site, w http.ResponseWriter, at int)
		want   string
	}{
		"whole image, same etag":  {func(s *site, w http.ResponseWriter, _ int) { w.Header().Set("ETag", `"one"`); _, _ = w.Write(s.body) }, source.ConnectionFailed},
		"whole image, other etag": {func(s *site, w http.ResponseWriter, _ int) { w.Header().Set("ETag", `"two"`); _, _ = w.Write(s.body) }, source.SourceUnstable},
		"whole image, no etag":    {func(s *site, w http.ResponseWriter, _ int) { _, _ = w.Write(s.body) }, source.SourceUnstable},
		"416":                     {func(_ *site, w http.ResponseWriter, _ int) { w.WriteHeader(416) }, source.SourceUnstable},
		"204":                     {func(_ *site, w http.ResponseWriter, _ int) { w.WriteHeader(204) }, source.EmptySource},
		"wrong start": {func(s *site, w http.ResponseWriter, at int) {
			part(w, s, at-1, size-1, size)
		}, source.SourceUnstable},
		"wrong total": {func(s *site, w http.ResponseWriter, at int) {
			part(w, s, at, size-1, size+1)
		}, source.SourceUnstable},
		"other etag": {func(s *site, w http.ResponseWriter, at int) {
			w.Header().Set("ETag", `"two"`)
			part(w, s, at, size-1, size)
		}, source.SourceUnstable},
		"no range": {func(s *site, w http.ResponseWriter, at int) {
			w.WriteHeader(206)
			_, _ = w.Write(s.body[at:])
		}, source.SourceUnstable},
		"garbage range": {func(s *site, w http.ResponseWriter, at int) {
			w.Header().Set("Content-Range", "bytes +5-6/7")
			w.WriteHeader(206)
			_, _ = w.Write(s.body[at:])
		}, source.SourceUnstable},
		"unknown total": {func(s *site, w http.ResponseWriter, at int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", at, size-1))
			w.WriteHeader(206)
			_, _ = w.Write(s.body[at:])
		}, source.SourceUnstable},
		"multipart": {func(s *site, w http.ResponseWriter, at int) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(206)
			_, _ = fmt.Fprintf(w, "--x\r\nContent-Range: bytes %d-%d/%d\r\n\r\n", at, size-1, size)
			_, _ = w.Write(s.body[at:])
		}, source.SourceUnstable},
		"wrong length": {func(s *site, w http.ResponseWriter, at int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, size-1, size))
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(206)
			_, _ = w.Write(s.body[at : at+10])
		}, source.SourceUnstable},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(size))
			s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 0 {
					s.serve(&cutWriter{ResponseWriter: w, left: half}, r)
					return true
				}
				var at int
				_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
				require.NoError(t, err)
				c.answer(s, w, at)
				return true
			}
			o := options(newClock())
			o.Connections = 1
			e := failure(t, s.url(), o)
			require.Equal(t, c.want, e.Reason(), e)
			requests := 2
			if c.want == source.ConnectionFailed {
				// Another server behind the same address might still send the part.
				requests = 5
			}
			require.Equal(t, requests, s.count())
			require.Equal(t, c.want != source.EmptySource, e.StartOver())
		})
	}
}

func part(w http.ResponseWriter, s *site, first, last, total int) {
	if w.Header().Get("ETag") == "" {
		w.Header().Set("ETag", s.etag)
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, total))
	w.Header().Set("Content-Length", strconv.Itoa(last-first+1))
	w.WriteHeader(206)
	_, _ = w.Write(s.body[first : last+1])
}

func TestShortPartsAreGoodParts(t *testing.T) {
	s := newSite(t, random(6*mib))
	s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 0 {
			s.serve(&cutWriter{ResponseWriter: w, left: mib}, r)
			return true
		}
		first, last := asked(r, len(s.body))
		part(w, s, first, min(first+mib-1, last), len(s.body))
		return true
	}
	got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), 64<<10)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.body, got))
}

func TestSourceReplacedBeforeTheFirstByte(t *testing.T) {
	s := newSite(t, random(mib))
	s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n == 0 {
			w.Header().Set("ETag", s.etag)
			w.Header().Set("Content-Length", strconv.Itoa(len(s.body)))
			s.mu.Lock()
			s.etag, s.body = `"two"`, random(2*mib)
			s.mu.Unlock()
			hangUp(w, false)
		}
		return n == 0
	}
	e := failure(t, s.url(), options(newClock()))
	require.Equal(t, source.SourceUnstable, e.Reason())
	require.True(t, e.StartOver())
}

func TestBrokenBeforeTheFirstByte(t *testing.T) {
	s := newSite(t, random(mib))
	s.etag = ""
	s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 0 {
			s.serve(&cutWriter{ResponseWriter: w, left: 0}, r)
		}
		return n == 0
	}
	got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), 64<<10)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.body, got))
}

func TestUnknownLength(t *testing.T) {
	body := random(3 * mib)
	chunked := func(w http.ResponseWriter, from int) {
		w.Header().Set("ETag", `"one"`)
		for off := from; off < len(body); off += 64 << 10 {
			if _, err := w.Write(body[off:min(off+64<<10, len(body))]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	}
	t.Run("chunked", func(t *testing.T) {
		s := newSite(t, body)
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { chunked(w, 0); return true }
		image := open(t, s.url(), options(newClock()))
		require.EqualValues(t, -1, image.Size())
		require.True(t, image.Framed())
		got, err := readAll(t.Context(), image, 100000)
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got))
	})
	t.Run("chunked and cut", func(t *testing.T) {
		s := newSite(t, body)
		s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 0 {
				chunked(&cutWriter{ResponseWriter: w, left: mib, reset: true}, 0)
			}
			return n == 0
		}
		got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), 100000)
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got))
	})
	t.Run("chunked, cut, and then a part without the end", func(t *testing.T) {
		s := newSite(t, body)
		s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				chunked(&cutWriter{ResponseWriter: w, left: mib, reset: true}, 0)
				return true
			}
			var at int
			_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
			require.NoError(t, err)
			part(w, s, at, min(at+mib, len(body))-1, len(body))
			return true
		}
		got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), 100000)
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got), "the end of a part is not the end of the image")
	})
	t.Run("empty", func(t *testing.T) {
		s := newSite(t, body)
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			_ = http.NewResponseController(w).Flush()
			return true
		}
		require.Equal(t, source.EmptySource, failure(t, s.url(), options(newClock())).Reason())
	})
	t.Run("pinned length", func(t *testing.T) {
		s := newSite(t, body)
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { chunked(w, 0); return true }
		o := options(newClock())
		o.Pin.Length = int64(len(body)) + 1
		require.Equal(t, source.SourceChanged, failure(t, s.url(), o).Reason())
	})
	t.Run("until the connection ends", func(t *testing.T) {
		s := newSite(t, body)
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { rawAnswer(w, "", body); return true }
		image := open(t, s.url(), options(newClock()))
		require.False(t, image.Framed(), "nothing tells a cut body from a whole one")
		got, err := readAll(t.Context(), image, 100000)
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got))
	})
}

// rawAnswer writes an answer that net/http would not write.
func rawAnswer(w http.ResponseWriter, headers string, body []byte) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+headers+"\r\n")
	_, _ = conn.Write(body)
	_ = conn.Close()
}

func TestLengthThatLies(t *testing.T) {
	body := random(mib)
	for name, c := range map[string]struct {
		length string
		want   string
	}{
		"too long":  {strconv.Itoa(2 * mib), source.ConnectionFailed},
		"negative":  {"-5", source.ConnectionFailed},
		"no number": {"many", source.ConnectionFailed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, body)
			s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				rawAnswer(w, "ETag: W/\"x\"\r\nContent-Length: "+c.length+"\r\n", body)
				return true
			}
			require.Equal(t, c.want, failure(t, s.url(), options(newClock())).Reason())
		})
	}
	t.Run("too short", func(t *testing.T) {
		s := newSite(t, body)
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			rawAnswer(w, "Content-Length: 1000\r\n", body)
			return true
		}
		// HTTP cannot show this; a checksum or the format does.
		got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), mib)
		require.NoError(t, err)
		require.True(t, bytes.Equal(body[:1000], got))
	})
}

func TestUnaskedPart(t *testing.T) {
	s := newSite(t, random(mib))
	s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool { part(w, s, 0, 99, mib); return true }
	require.Equal(t, source.SourceUnstable, failure(t, s.url(), options(newClock())).Reason(), "the same part again")
	s.etag = ""
	require.Equal(t, source.SourceRefused, failure(t, s.url(), options(newClock())).Reason())
}

func TestStalledServer(t *testing.T) {
	t.Run("in the body", func(t *testing.T) {
		s := newSite(t, random(4*mib))
		clock, opened := newClock(), make(chan source.Image, 1)
		s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n > 0 {
				return false
			}
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(s.body)))
			_, _ = w.Write(s.body[:2*mib])
			_ = http.NewResponseController(w).Flush()
			image := <-opened
			clock.timers.end(stallTimeout, func() bool { return image.Fetched() == 2*mib })
			<-r.Context().Done()
			return true
		}
		o := options(clock)
		var told string
		o.Notice = func(message string) { told = message }
		image := open(t, s.url(), o)
		opened <- image
		got, err := readAll(t.Context(), image, 64<<10)
		require.NoError(t, err)
		require.True(t, bytes.Equal(s.body, got))
		require.Contains(t, told, "Stalled: reading "+s.URL+"/disk.img at byte 2097152: nothing came for 1m0s")
		require.EqualValues(t, 4*mib, image.Fetched(), "nothing came twice")
	})
	t.Run("for ever", func(t *testing.T) {
		s := newSite(t, random(4*mib))
		clock := newClock()
		s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", `"one"`)
			first, last := asked(r, len(s.body))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(s.body)))
			w.Header().Set("Content-Length", strconv.Itoa(last-first+1))
			w.WriteHeader(206)
			_, _ = w.Write(s.body[:10])
			_ = http.NewResponseController(w).Flush()
			clock.timers.end(stallTimeout, nil)
			<-r.Context().Done()
			return true
		}
		require.Equal(t, source.Stalled, failure(t, s.url(), options(clock)).Reason())
		require.Equal(t, 12, s.count())
	})
	t.Run("before the headers", func(t *testing.T) {
		s := newSite(t, nil)
		clock := newClock()
		s.spoil = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
			clock.timers.end(headerTimeout, nil)
			<-r.Context().Done()
			return true
		}
		e := failure(t, s.url(), options(clock))
		require.Equal(t, source.ConnectionFailed, e.Reason())
		require.ErrorContains(t, e, "no answer came in time")
		require.Equal(t, 12, s.count())
	})
	t.Run("slow reader", func(t *testing.T) {
		s := newSite(t, random(4*mib))
		s.spoil = func(_ int, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
		clock := newClock()
		image := open(t, s.url(), options(clock))
		for range 3 {
			_, err := image.Read(t.Context(), make([]byte, 1))
			require.NoError(t, err)
			require.False(t, clock.timers.runs(stallTimeout), "a slow target is not a silent source")
		}
		require.Equal(t, 3, clock.timers.started(stallTimeout)-1, "while somebody waits for bytes it runs")
	})
}
