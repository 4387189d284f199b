// Package populator fills claims with disks: it turns a claim that refers to a
// VMDiskImage or a DataImportCron into a VMDiskImport, a VMDiskImport into one Job per
// attempt, and a finished import into a bound claim. What differs between the kinds
// that claims refer to is in one table (kind.go, resolve.go).
//
// Three parts share the work. The claim controller (claim.go) makes the VMDiskImport
// as soon as a claim is seen and clears up when the claim goes. The import controller
// (import.go) runs the attempts. lib-volume-populator (machinery.go) makes PVC', the
// claim in the system namespace that the importer writes to, and hands its volume
// over to the user's claim once the import is ready. What to do is decided by pure
// functions (step.go, job.go, outcome.go, waiting.go); the controllers carry it out.
package populator
