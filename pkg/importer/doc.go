// Package importer copies one disk image from its source into one target volume.
//
// The flow is: source, verify, format, target, sync, result. The package declares
// the interfaces of these parts and knows none of their implementations; cmd/importer
// joins them. The controller uses this package only for its contract: Options.Args,
// Progress, Result, and Reason with its exit code.
package importer
