package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHosts(t *testing.T) {
	h, err := startHosts(t.Context(), 3)
	require.NoError(t, err)
	defer func() { require.NoError(t, h.stop()) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	head := func(url, etag string) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url, http.NoBody)
		if !assert.NoError(t, err) {
			return nil
		}
		request.Header.Set("If-None-Match", etag)
		response, err := client.Do(request)
		if !assert.NoError(t, err) {
			return nil
		}
		assert.NoError(t, response.Body.Close())
		return response
	}
	from := time.Now()
	first := head(h.url(0), "")
	require.Equal(t, http.StatusOK, first.StatusCode)
	require.Equal(t, imageLength, first.Header.Get("Content-Length"))
	require.Equal(t, http.StatusNotModified, head(h.url(0), first.Header.Get("ETag")).StatusCode)
	require.Equal(t, http.StatusOK, head(h.url(1), first.Header.Get("ETag")).StatusCode, "another file has another ETag")
	found, most := h.between(from, time.Now())
	require.Len(t, found, 3)
	require.Equal(t, 1, most)

	from = time.Now()
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() { head(h.url(0), "") })
	}
	wait.Go(func() { head(h.url(1), "") })
	wait.Wait()
	found, most = h.between(from, time.Now())
	require.Len(t, found, 21)
	require.Greater(t, most, 1)
	require.LessOrEqual(t, most, 20, "another host does not count")
	require.Equal(t, 24, h.answered())
}

const auditLine = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete","verb":"patch",` +
	`"user":{"username":"system:serviceaccount:gild-system:gild-poller","uid":"a"},` +
	`"objectRef":{"resource":"dataimportcrons","namespace":"images-01","name":"%s","apiGroup":"cdi.kubevirt.io","apiVersion":"v1beta1"},` +
	`"responseStatus":{"metadata":{},"code":%d},"requestReceivedTimestamp":"2026-05-01T12:00:00.123456Z"}` + "\n"

func TestAuditLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	add := func(text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	a := &auditLog{path: path, user: "system:serviceaccount:gild-system:gild-poller"}
	next := fmt.Sprintf(auditLine, "b", 409)
	add(fmt.Sprintf(auditLine, "a", 200) + strings.Replace(next, "gild-poller", "other", 1) + next[:100])
	all, err := a.writes()
	require.NoError(t, err)
	at := time.Date(2026, 5, 1, 12, 0, 0, 123456000, time.UTC)
	require.Equal(t, []write{{verb: "patch", resource: crons, name: "images-01/a", code: 200, at: at}}, all, "the last line is not whole")
	add(next[100:])
	all, err = a.writes()
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "patch dataimportcrons (409)", all[1].String())
	require.Empty(t, within(all, at.Add(1), at.Add(time.Hour)))
	require.Len(t, within(all, at, at.Add(1)), 2)
}

func TestMostWithin(t *testing.T) {
	at := func(seconds ...int) (times []time.Time) {
		for _, s := range seconds {
			times = append(times, time.Unix(int64(s), 0))
		}
		return times
	}
	require.Zero(t, mostWithin(nil, time.Minute))
	require.Equal(t, 1, mostWithin(at(0, 60, 120), time.Minute))
	require.Equal(t, 2, mostWithin(at(119, 0, 60), time.Minute))
	require.Equal(t, 3, mostWithin(at(0, 1, 2, 100, 101), time.Minute))
}

// phase is one in which two crons on one host were polled once and written once.
func phase() measured {
	from := time.Unix(1000, 0)
	m := measured{name: "due", crons: 2, from: from, apart: time.Hour, most: 1}
	for i := range 2 {
		at := from.Add(time.Duration(i+1) * time.Second)
		m.requests = append(m.requests, request{host: "h", path: fileName(i), status: 304, at: at, done: at.Add(time.Second / 2)})
		m.writes = append(m.writes, write{verb: "patch", resource: crons, name: fileName(i), code: 200, at: at.Add(time.Second)})
	}
	m.writes = append(m.writes, write{verb: "update", resource: "leases", code: 200, at: from.Add(time.Hour)})
	return m
}

func TestFigures(t *testing.T) {
	f := figuresOf(phase())
	f.judge(rules{perHost: 1, polls: 2, steady: true, each: true})
	require.Equal(t, figures{
		Phase: "due", Crons: 2, Polls: 2, NotModified: 2, MostPerHost: 1, LastPoll: 2.5, LastWrite: 3, PerSecond: 1, Mean: 2 / 1.5,
		Writes: map[string]int{"patch dataimportcrons": 2, "update leases": 1}, CronWrites: 2, MostPerCron: 1, Faults: []string{},
	}, f)
}

func TestEveryFaultIsSeen(t *testing.T) {
	for fault, change := range map[string]func(m *measured){
		"1 URLs were not polled":            func(m *measured) { m.requests[1] = m.requests[0] },
		"1 URLs were polled twice":          func(m *measured) { m.requests = append(m.requests, m.requests[0]) },
		"3 polls, 2 were due":               func(m *measured) { m.requests = append(m.requests, m.requests[0]) },
		"2 polls of one host at once":       func(m *measured) { m.most = 2 },
		"2 writes to one cron within 10m0s": func(m *measured) { m.writes[1].name = m.writes[0].name },
		"1 writes to crons for 2 polls":     func(m *measured) { m.writes = m.writes[1:] },
		"3 writes to crons for 2 polls":     func(m *measured) { m.writes = append(m.writes, write{resource: crons, code: 409}) },
		"257 MiB of memory":                 func(*measured) {},
	} {
		t.Run(fault, func(t *testing.T) {
			m := phase()
			change(&m)
			f := figuresOf(m)
			f.MiB = 257
			f.judge(rules{perHost: 1, polls: 2, steady: true, each: true})
			require.Contains(t, strings.Join(f.Faults, "\n"), fault)
			r := report{Phases: []figures{f}}
			require.Error(t, r.missed())
			require.Contains(t, r.table(), "MISSED in due: ")
		})
	}
}

func TestReport(t *testing.T) {
	f := figuresOf(phase())
	f.judge(rules{perHost: 1, polls: 2})
	r := report{Machine: "a machine", Crons: 2, Hosts: 1, PerHost: 1, Phases: []figures{f}}
	text := r.table()
	require.NoError(t, r.missed())
	require.Regexp(t, "(?m)^patch dataimportcrons +2$", text)
	require.NotContains(t, text, "MISSED")
}

func TestCronsAreWellSpread(t *testing.T) {
	h := &hosts{addresses: []string{"a", "b", "c"}}
	perHost, keys := map[string]int{}, map[string]bool{}
	for i := range 30 {
		url := h.url(i)
		perHost[strings.Split(url, "/")[2]]++
		keys[cronName(i).String()] = true
		require.Equal(t, url, newCron(i, url, yearly).Spec.Template.Spec.Source.HTTP.URL)
	}
	require.Equal(t, map[string]int{"a": 10, "b": 10, "c": 10}, perHost)
	require.Len(t, keys, 30)
}
