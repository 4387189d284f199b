package layer

import (
	"fmt"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// The reasons that only images made of layers have. The others are those of package refusal.
const (
	// DigestMismatch: a blob is not the one that the manifest names.
	DigestMismatch = "DigestMismatch"
	// NoDisk: no layer has a file below disk/ that is visible.
	NoDisk = "NoDisk"
	// SeveralDisks: more than one file is visible there.
	SeveralDisks = "SeveralDisks"
)

func corrupt(format string, values ...any) error {
	return refusal.New(refusal.CorruptImage, fmt.Sprintf(format, values...))
}

func unsafe(format string, values ...any) error {
	return refusal.New(refusal.UnsafeImage, fmt.Sprintf(format, values...))
}

func tooMuch(format string, values ...any) error {
	return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf(format, values...))
}
