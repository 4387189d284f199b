// Package trim cuts the objects that the poller caches down to what its parts read: a cluster has many
// more claims and imports than golden ones, and all of them are watched.
//
// What was cut must never be written back whole. Patches are computed from two trimmed objects, so they
// leave alone what neither has; an update would delete it.
package trim
