// Package corpus runs the importer over disk images with known outcomes: good ones of every
// format and option, broken ones, and ones made to do harm.
//
//	go test -tags corpus -timeout 60m ./test/corpus
//
// It needs root (loop devices and name spaces) and the tools that README.md lists. generate/
// makes the images once, in about three minutes, and keeps them below $GILD_CACHE/corpus;
// MANIFEST.tsv says what must happen to each. The importer is the real program. It runs without
// a network but a loopback of its own, beside canaries in the places that images name.
//
// The table of what was seen is written to $GILD_CACHE/corpus/report.txt.
package corpus
