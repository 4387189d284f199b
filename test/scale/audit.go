package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// write is one request of the poller that changes something, as the API server's audit log has it.
type write struct {
	verb, resource, name string // name includes the namespace
	code                 int
	at                   time.Time
}

// lease tells writes of the leader election, which no cron causes.
func (w write) lease() bool { return w.resource == "leases" }

// String counts writes alike: verb, resource and, of a refused one, the code.
func (w write) String() string {
	text := w.verb + " " + w.resource
	if w.code >= 400 {
		text += fmt.Sprintf(" (%d)", w.code)
	}
	return text
}

// auditLog reads a log that grows.
type auditLog struct {
	path string
	user string
	read int64 // bytes
	all  []write
}

// writes returns all writes of the user so far.
func (a *auditLog) writes() ([]write, error) {
	f, err := os.Open(a.path)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(f, a.read, 1<<62))
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	end := bytes.LastIndexByte(text, '\n') + 1 // the last line may still be written
	a.read += int64(end)
	for line := range bytes.Lines(text[:end]) {
		w, user, err := parseAudit(line)
		if err != nil {
			return nil, err
		}
		if user == a.user {
			a.all = append(a.all, w)
		}
	}
	return a.all, nil
}

// parseAudit reads a line of the log: a write, and who made it.
func parseAudit(line []byte) (write, string, error) {
	var event struct {
		Verb      string
		User      struct{ Username string }
		ObjectRef struct{ Resource, Subresource, Namespace, Name string }

		ResponseStatus           struct{ Code int }
		RequestReceivedTimestamp time.Time
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return write{}, "", fmt.Errorf("reading a line of the audit log: %w", err)
	}
	w := write{verb: event.Verb, resource: event.ObjectRef.Resource, code: event.ResponseStatus.Code, at: event.RequestReceivedTimestamp}
	if event.ObjectRef.Subresource != "" {
		w.resource += "/" + event.ObjectRef.Subresource
	}
	w.name = event.ObjectRef.Namespace + "/" + event.ObjectRef.Name
	return w, event.User.Username, nil
}

// within returns the writes in [from, to).
func within(all []write, from, to time.Time) []write {
	var found []write
	for _, w := range all {
		if !w.at.Before(from) && w.at.Before(to) {
			found = append(found, w)
		}
	}
	return found
}
