// Package poller polls the sources of DataImportCrons: it decides when one is due, has its
// source probed, and records what was found in one patch of the cron.
//
// What to do is decided by pure functions: due.go (when), revision.go (what was found, as
// the revision that an import is pinned to) and record.go (what the patch says). The
// reconciler (poller.go) carries it out. It never waits: a poll that is due goes to a
// queue (queue.go) with a bound for all and one for each host, whose workers (work.go, find.go) read
// Secrets and probe; what they bring back wakes the reconciler. memory.go holds what is under
// way, so that a view from before our own write never leads to a second poll.
//
// The contract with the roller, which imports what is found, is in pkg/golden.
package poller
