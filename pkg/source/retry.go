package source

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxTries bounds the tries that bring no progress: waits of 1, 2, 4 … 60 s are about six
	// minutes. After that the pod ends and the controller goes on with its own backoff.
	maxTries = 12
	// lookupTries bounds the tries for a host name that does not exist: 1+2+4+8 = 15 s. A
	// name may be minutes old, but most often it is a typing error and somebody waits.
	lookupTries = 5
	// maxWait bounds one wait. When the server asks for more, the pod ends instead.
	maxWait = 60 * time.Second
	// maxRetryAfter bounds what is believed of a Retry-After.
	maxRetryAfter = 24 * time.Hour
	// progressBytes is what a connection must bring to count as progress.
	progressBytes = 1 << 20
)

// nextTry decides what follows the failed try number tries (1 is the first) of most: the wait
// before another one, or that there is none. jitter in [0,1) adds up to a quarter and never
// shortens a wait.
func nextTry(e *Error, tries, most int, jitter float64) (wait time.Duration, again bool) {
	switch {
	case e.reason == HostNotFound && tries >= lookupTries,
		e.reason != HostNotFound && !Transient(e.reason),
		tries >= most,
		e.retryAfter > maxWait:
		return 0, false
	}
	wait = min(time.Second<<min(tries-1, 30), maxWait)
	wait = min(wait+time.Duration(jitter*float64(wait)/4), maxWait)
	if e.retryAfter >= wait {
		wait = e.retryAfter + time.Duration(jitter*float64(time.Second))
	}
	return wait, true
}

// retryAfter reads a Retry-After header: seconds, or a date of the server, which is compared
// with the server's own Date so that its clock does not matter. What cannot be read or is
// past is 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
