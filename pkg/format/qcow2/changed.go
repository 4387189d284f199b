package qcow2

// Changed says that the tables of an image are not what they were a moment ago: its source
// changed between two reads of it.
type Changed struct{}

// Error implements error.
func (Changed) Error() string { return "the image changed between two reads of it" }

// Reason is the importer's word for it.
func (Changed) Reason() string { return "SourceUnstable" }

// StartOver tells that opening the source again may help.
func (Changed) StartOver() bool { return true }
